//! The Linux VDUSE kernel interface, typed and without policy.
