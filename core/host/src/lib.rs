//! Loads protocol plugins and runs them between the engine's sessions and the target.
