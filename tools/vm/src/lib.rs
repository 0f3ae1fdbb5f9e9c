//! Throw-away virtual machines with a VDUSE kernel.
