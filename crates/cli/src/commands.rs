//! One command a file.

pub mod attest;
pub mod check;
pub mod components;
pub mod decisions;
pub mod demo;
pub mod deployment;
pub mod events;
pub mod exception;
pub mod group;
pub mod impact;
pub mod import;
pub mod key;
pub mod log;
pub mod policy;
pub mod push;
pub mod registry;
pub mod revoke;
pub mod serve;
pub mod sign_bundle;
pub mod tenant;
pub mod timeline;
pub mod token;
pub mod trust;
pub mod verdict;
pub mod vsa;
pub mod webhook;
