//! Who does what while faults strike.

pub mod control;
pub mod poll;
pub mod read;
pub mod refused;
pub mod sample;
pub mod stage;
pub mod write;
