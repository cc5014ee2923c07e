//! `tidegate filter …`: what authors and users of filter modules need at hand.

mod arguments;
mod bench;
mod build;
mod export;
mod inspect;
mod new;
mod pull;
mod push;
mod registry;
pub(crate) mod test;

pub(crate) use arguments::Filter;
use arguments::FilterCommand;

/// Runs one of the commands.
pub(crate) fn run(arguments: &Filter) -> anyhow::Result<u8> {
    match &arguments.command {
        FilterCommand::New(arguments) => new::run(arguments),
        FilterCommand::Build(arguments) => build::run(arguments),
        FilterCommand::Bench(arguments) => bench::run(arguments),
        FilterCommand::Export(arguments) => export::run(arguments),
        FilterCommand::Test(arguments) => test::run(arguments),
        FilterCommand::Inspect(arguments) => inspect::run(arguments),
        FilterCommand::Push(arguments) => push::run(arguments),
        FilterCommand::Pull(arguments) => pull::run(arguments),
    }
}
