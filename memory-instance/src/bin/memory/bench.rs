use crate::args::Common;
use crate::out::Out;
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) async fn run(_: &Common, _: &Args, _: &mut Out) -> anyhow::Result<()> {
    Ok(())
}
