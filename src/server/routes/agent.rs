//! Routes for operators: status and purge.

mod purge;
mod status;

pub(crate) use self::purge::purge;
pub(crate) use self::status::status;
