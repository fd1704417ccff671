//! Documents and samples against the program: links, commands, configs, OpenAPI, named tests.

mod named_test;
mod openapi;
mod page;
mod sample_configs;
