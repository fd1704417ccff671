//! The project itself: language, layering of the crates, tools of a release.

mod language;
mod layering;
mod release_tools;
