//! Requests and answers as bytes: reading, bodies, dates, and error answers.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod inbound;
pub(crate) mod instant;
pub(crate) mod refusal;
