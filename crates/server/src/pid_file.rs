//! `pidfile`: the process id in a file, for whoever supervises the process.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A file with the id of this process. It goes when this is dropped, unless another process has written to it since.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file, whatever was in it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn write(path: PathBuf) -> io::Result<Self> {
        fs::write(&path, content())?;
        Ok(Self { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == content()) {
            // One that stays names a process that is gone, which its readers must expect.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn content() -> String {
    format!("{}\n", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_this_process_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.pid");
        fs::write(&path, "a longer text of a process that is gone").unwrap();
        let file = PidFile::write(path.clone()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(path.clone()).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n", "it is another process's now");
        assert!(PidFile::write(dir.path().join("none/server.pid")).is_err());
    }
}
