//! ConfigMaps: the configuration file and the record.

use std::collections::BTreeMap;

use holdfast_contract::record::{RECORD_KEY, StoreRecord};
use k8s_openapi::api::core::v1::ConfigMap;

use super::owned;
use crate::names;
use crate::reconcile::validate::ValidatedStore;

/// ConfigMap with the configuration file.
pub(super) fn build_config(store: &ValidatedStore, text: String) -> ConfigMap {
    ConfigMap {
        metadata: owned(store, names::config(&store.name)),
        data: Some(BTreeMap::from([(names::CONFIG_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    }
}

/// ConfigMap with the record.
pub(super) fn build_record(store: &ValidatedStore, record: &StoreRecord) -> ConfigMap {
    let mut text = serde_json::to_string_pretty(record).expect("a record has a JSON form");
    text.push('\n');
    ConfigMap {
        metadata: owned(store, names::record(&store.name)),
        data: Some(BTreeMap::from([(RECORD_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    }
}

/// The record in `config_map`: absent without the ConfigMap, an error when it holds something else.
/// # Errors
/// What is wrong with the document.
pub fn read_record(config_map: Option<&ConfigMap>) -> Result<Option<StoreRecord>, String> {
    let Some(config_map) = config_map else { return Ok(None) };
    let text = config_map
        .data
        .as_ref()
        .and_then(|data| data.get(RECORD_KEY))
        .ok_or_else(|| format!("it has no key {RECORD_KEY:?}"))?;
    serde_json::from_str(text).map(Some).map_err(|error| error.to_string())
}
