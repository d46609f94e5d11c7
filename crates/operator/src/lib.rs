//! Kubernetes operator of Holdfast stores.
