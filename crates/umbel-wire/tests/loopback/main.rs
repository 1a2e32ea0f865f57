//! Real clients against real servers over mutual TLS on the loopback interface.

mod federation;
mod support;
mod tls;
