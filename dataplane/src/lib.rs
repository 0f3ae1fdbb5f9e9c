//! Everything that a Pollux queue thread runs: rings, requests, backends, the poll loop.
