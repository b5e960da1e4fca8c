use crate::args::Common;
use crate::out::Out;
pub(crate) async fn run(_: &Common, _: &mut Out) -> anyhow::Result<()> {
    Ok(())
}
