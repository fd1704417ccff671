//! Documents and samples against the program: links, commands, configs, OpenAPI, named tests and files.

mod openapi;
mod page;
mod reference;
mod sample_configs;
