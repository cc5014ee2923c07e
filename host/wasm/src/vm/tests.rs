//! The host under guests written for one purpose each: see [`guest`].

mod buffers;
mod calls;
mod caps;
mod code;
mod foreign;
mod grpc;
mod guest;
mod imports;
mod lifecycle;
mod limits;
mod load;
mod logs;
mod maps;
mod pointers;
mod properties;
mod random;
mod shared;
mod snapshot;
mod streams;
mod wasi;
