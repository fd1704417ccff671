//! The project itself: layering of the crates, tools of a release.

mod layering;
mod release_tools;
