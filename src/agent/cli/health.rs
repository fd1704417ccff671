use http::StatusCode;

use super::target::AgentTarget;
use crate::exit::Failure;

/// Exits with 0 when the agent is ready; for container and exec probes without curl.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Not ready is an agent that cannot answer any secret: without credentials that KMS accepts, a\n\
    region or a connection to KMS, and without an entry that it may serve; or before the first pass of Prefetch.\n\
    A process of another user on the port is not asked, and the exit code is 1 (see --agent-user).\n\n\
    Example:\n  \
    alibabacloud-kms-agent health          # /readyz: it can answer secrets\n  \
    alibabacloud-kms-agent health --live   # /livez: it runs"
)]
pub(super) struct HealthArgs {
    /// Ask whether it runs, not whether it can answer secrets
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    target: AgentTarget,
}

pub(super) fn run(args: &HealthArgs) -> Result<(), Failure> {
    let path = if args.live { "/livez" } else { "/readyz" };
    let reply = args.target.anonymous()?.get(path)?;
    if reply.status == StatusCode::OK {
        Ok(())
    } else {
        // Holds states and codes, never a value.
        let checks = String::from_utf8_lossy(&reply.body);
        Err(Failure::failed(format!(
            "the agent is not ready ({}): {checks}",
            reply.status.as_u16()
        )))
    }
}
