//! What operators ask of a running agent: what it holds, and to let go of it.

mod purge;
mod status;

pub(crate) use self::purge::purge;
pub(crate) use self::status::status;
