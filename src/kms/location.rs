//! Location of KMS: endpoints, regions, and the metadata service that knows the region of an ECS instance.

pub mod endpoint;
mod locator;
pub(crate) mod metadata;
pub mod region;

pub(crate) use self::locator::Locator;
pub(crate) use self::metadata::Metadata;
