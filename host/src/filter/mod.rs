//! `tidegate filter …`: what authors and users of filter modules need at hand.

mod arguments;
mod inspect;
pub(crate) mod test;

pub(crate) use arguments::Filter;
use arguments::FilterCommand;

/// Runs one of the commands.
pub(crate) fn run(arguments: &Filter) -> anyhow::Result<u8> {
    match &arguments.command {
        FilterCommand::Test(arguments) => test::run(arguments),
        FilterCommand::Inspect(arguments) => inspect::run(arguments),
    }
}
