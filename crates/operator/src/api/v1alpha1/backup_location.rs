//! Where backups go.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type, with its visibility, inside a function body"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ObjectRef;

/// A place for backups: an S3 bucket, a prefix in it, and the Secret with its credentials.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "BackupLocation",
    plural = "backuplocations",
    shortname = "bl",
    category = "holdfast",
    namespaced,
    status = "BackupLocationStatus",
    derive = "PartialEq",
    doc = "A place for backups: an S3 bucket, a prefix in it, and the Secret with its credentials. The operator probes it from time to time by a small object below the prefix, which it writes once and reads back.",
    printcolumn(name = "Available", type_ = "string", json_path = ".status.conditions[?(@.type==\"Available\")].status"),
    printcolumn(name = "Bucket", type_ = "string", json_path = ".spec.s3.bucket"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.prefix"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Available\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.s3.endpoint", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 50 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("the name of a BackupLocation has at most 50 characters, lower-case letters, digits and '-', because it names a directory in the pods"),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupLocationSpec {
    /// A bucket of an S3-compatible service.
    pub s3: S3Location,
    /// Path in the bucket below which everything lies, without `/` at either end. Several Stores can share it. Default:
    /// the root of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message("spec.prefix must not have . or .. between its slashes: object stores and their tools read that in different ways"))]
    #[schemars(length(max = 256), pattern("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$"))]
    pub prefix: Option<String>,
    /// Secret in this namespace with the keys `accessKeyID`, `secretAccessKey` and, if need be, `sessionToken`. A missing
    /// Secret or key never means anonymous access. A change is noticed within a minute.
    pub credentials_secret_ref: ObjectRef,
}

/// A bucket of an S3-compatible service.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Location {
    /// Name of the bucket; it must exist.
    #[schemars(length(min = 3, max = 63), pattern("^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// URL of the service, `http://` or `https://`, without user and password. Absent: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), pattern(r"^https?://[^/?#@\s]+/?$"))]
    pub endpoint: Option<String>,
    /// Region to sign for. Default: `us-east-1`.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), pattern("^[A-Za-z0-9-]+$"))]
    pub region: String,
    /// Certificates (PEM) of private authorities to trust for `endpoint`, besides the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    pub ca_bundle: Option<String>,
    /// `Path`: the bucket is part of the path, as most services other than AWS want it. `VirtualHosted`: of the host name.
    #[serde(default)]
    pub addressing_style: AddressingStyle,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// Where the name of the bucket stands in a request.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AddressingStyle {
    /// In the path.
    #[default]
    Path,
    /// In the host name.
    VirtualHosted,
}

/// What the last probe found.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupLocationStatus {
    /// Generation of the spec that was probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Available.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
