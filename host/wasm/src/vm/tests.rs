//! The host under guests written for one purpose each: see [`guest`].

mod buffers;
mod calls;
mod caps;
mod grpc;
mod guest;
mod lifecycle;
mod limits;
mod load;
mod logs;
mod maps;
mod pointers;
mod properties;
mod shared;
mod streams;
mod wasi;
