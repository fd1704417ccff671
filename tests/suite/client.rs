//! Client programs: the documented ones, official SDKs, and the official guide word for word.

mod example;
mod official_guide;
mod sdk;
