//! The process that commands may ask things of: there is none here.

use holdfast_server::command::{ClientFilter, Host, InfoSection, JobStart, Killed, PauseMode, Session};
use holdfast_server::engine::Engine;
use holdfast_server::protocol::Request;

pub(crate) struct Nobody;

impl Host for Nobody {
    fn unix_time_us(&mut self) -> i64 {
        0
    }
    fn write_info(&mut self, _: InfoSection, _: &Engine, _: &mut String) {}
    fn config_matching(&mut self, _: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
    fn set_config(&mut self, _: &[(&[u8], &[u8])]) -> Result<(), String> {
        Err(String::new())
    }
    fn rewrite_config(&mut self, _: bool) -> Result<(), String> {
        Err(String::new())
    }
    fn reset_statistics(&mut self) {}
    fn authenticate(&mut self, _: &[u8], _: &[u8]) -> bool {
        false
    }
    fn has_password(&self) -> bool {
        false
    }
    fn last_save_s(&mut self) -> i64 {
        0
    }
    fn start_background_save(&mut self, _: bool) -> Result<JobStart, String> {
        Err(String::new())
    }
    fn start_log_rewrite(&mut self) -> Result<JobStart, String> {
        Err(String::new())
    }
    fn log_enabled(&self) -> bool {
        true
    }
    fn is_durable(&mut self, _: &Session) -> bool {
        false
    }
    fn replication_offset(&mut self) -> u64 {
        0
    }
    fn abort_shutdown(&mut self) -> bool {
        false
    }
    fn list_clients(&mut self, _: &ClientFilter, _: &Session, _: &Request<'_>) -> String {
        String::new()
    }
    fn kill_clients(&mut self, _: &ClientFilter, _: &Session) -> Killed {
        Killed::default()
    }
    fn pause_clients(&mut self, _: PauseMode, _: i64) {}
    fn unpause_clients(&mut self) {}
}
