//! Chains, as stories: the golden one holds, and each of the others breaks one link of it.

mod builds;
mod enterprise;
mod exceptions;
mod expressions;
mod history;
mod identities;
mod laws;
mod layouts;
mod properties;
mod revocations;
mod scene;
mod stories;
mod strangers;
mod strict;
mod summaries;
