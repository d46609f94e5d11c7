//! `include`: the lines of another file in the place of the line that names it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::problem::{Problem, SourceName};
use super::source::{Line, Parsed, parse_text};
use super::words::quote;
use crate::glob;

/// Limit on all included files together: where each file includes the next one twice, their number doubles per level.
const FILES_MAX: usize = 256;

/// Path and contents of a file, or why it is not known.
pub(super) type FileRead = io::Result<(PathBuf, Vec<u8>)>;

/// Reads the files that a path or pattern of `include` names, in order. What cannot be read is an error in its place.
pub(super) type Read<'a> = dyn FnMut(&Path) -> Vec<FileRead> + 'a;

/// Replaces each `include` among `lines`, which come from `source`, by the lines of the files that it names.
pub(super) fn expand(source: &SourceName, lines: Vec<Parsed>, read: &mut Read<'_>) -> Vec<Parsed> {
    let open = match source {
        SourceName::File(path) => vec![path.clone()],
        _ => Vec::new(),
    };
    let mut expansion = Expansion { read, open, files: 0, lines: Vec::new() };
    expansion.add(lines);
    expansion.lines
}

struct Expansion<'a, 'r> {
    read: &'a mut Read<'r>,
    /// The files that are being read, the outermost first.
    open: Vec<PathBuf>,
    /// Files included so far.
    files: usize,
    lines: Vec<Parsed>,
}

impl Expansion<'_, '_> {
    fn add(&mut self, lines: Vec<Parsed>) {
        for line in lines {
            match line {
                Ok(line) if line.name == "include" => self.include(&line),
                other => self.lines.push(other),
            }
        }
    }

    fn refuse(&mut self, problem: Problem) {
        self.lines.push(Err(problem));
    }

    fn include(&mut self, line: &Line) {
        let help = "include takes the path of one file, or a pattern for several, as in include /etc/holdfast/*.conf";
        let [pattern] = &line.arguments[..] else {
            return self.refuse(line.problem("wrong number of arguments", help));
        };
        for file in (self.read)(Path::new(std::ffi::OsStr::from_bytes(pattern))) {
            let (path, text) = match file {
                Ok(file) => file,
                Err(error) => {
                    let shown = String::from_utf8_lossy(&quote(pattern)).into_owned();
                    self.refuse(line.problem(format!("Can't read {shown}: {error}"), help));
                    continue;
                }
            };
            if self.open.contains(&path) {
                self.refuse(line.problem(format!("{path:?} includes itself"), "remove the line"));
                continue;
            }
            self.files += 1;
            if self.files > FILES_MAX {
                let reason = format!("more than {FILES_MAX} files are included");
                return self.refuse(line.problem(reason, "include each file once"));
            }
            let lines = parse_text(&SourceName::File(path.clone()), &text);
            self.open.push(path);
            self.add(lines);
            self.open.pop();
        }
    }
}

/// [`Read`] from the file system. A pattern that matches nothing names no file, as in Redis; a path must exist, and what
/// matches must be readable, links included.
pub(super) fn read_files(pattern: &Path) -> Vec<FileRead> {
    let mut paths = vec![PathBuf::new()];
    let mut unlisted = Vec::new();
    for component in pattern.components() {
        let mut next = Vec::new();
        for path in paths {
            match component {
                Component::Normal(name) if is_pattern(name.as_bytes()) => {
                    match matching(&path, name.as_bytes()) {
                        Ok(found) => next.extend(found),
                        Err(error) => unlisted.push(Err(error)),
                    }
                }
                other => next.push(path.join(other)),
            }
        }
        paths = next;
    }
    if is_pattern(pattern.as_os_str().as_bytes()) {
        paths.retain(|path| path.symlink_metadata().is_ok());
    }
    let read = |path: PathBuf| {
        let text = fs::read(&path).map_err(|error| naming(&path, &error))?;
        Ok((std::path::absolute(&path)?, text))
    };
    unlisted.into_iter().chain(paths.into_iter().map(read)).collect()
}

/// The same error with the path in its text.
fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path:?}: {error}"))
}

fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// The entries of a directory that match, sorted. Hidden ones must be asked for, as in a shell.
///
/// # Errors
/// The directory may not be listed, or not to its end: glob(3) is silent about it, and a password in a file of it would not be asked for.
fn matching(directory: &Path, pattern: &[u8]) -> io::Result<Vec<PathBuf>> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = match fs::read_dir(listed) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(naming(listed, &error)),
        // It is not there, or no directory.
        Err(_) => return Ok(Vec::new()),
    };
    let pattern = shell_pattern(pattern);
    let mut paths = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| naming(listed, &error))?.file_name();
        let may_match = pattern.starts_with(b".") || !name.as_bytes().starts_with(b".");
        if may_match && glob::matches(&pattern, name.as_bytes()) {
            paths.push(directory.join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

/// A shell's pattern as one of keys, which has `^` alone for what a set leaves out.
fn shell_pattern(pattern: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(pattern.len());
    let mut rest = pattern;
    loop {
        rest = match rest {
            [] => return written,
            [b'\\', escaped, after @ ..] => {
                written.extend([b'\\', *escaped]);
                after
            }
            [b'[', b'!', after @ ..] => {
                written.extend(b"[^");
                after
            }
            [byte, after @ ..] => {
                written.push(*byte);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_in_order_and_paths_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let names = |pattern: &str| {
            let files = read_files(&dir.path().join(pattern)).into_iter();
            files.map(|file| Ok(String::from_utf8(file?.1).unwrap())).collect::<io::Result<Vec<_>>>()
        };
        assert_eq!(names("*.conf").unwrap(), ["a.conf", "b.conf"]);
        assert_eq!(names("[ab].conf").unwrap(), ["a.conf", "b.conf"]);
        assert_eq!(names("[!b].conf").unwrap(), ["a.conf"]);
        assert_eq!(names("[^b].conf").unwrap(), ["a.conf"]);
        assert_eq!(names("c.txt").unwrap(), ["c.txt"]);
        assert_eq!(names("*.none").unwrap(), [""; 0]);
        assert_eq!(names("no*/*.conf").unwrap(), [""; 0]);
        assert_eq!(names("none.conf").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// What is left out silently may hold the password; and what cannot be read hides nothing of the others.
    #[test]
    fn each_match_that_cannot_be_read_is_named_beside_those_that_can() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.conf"), "hz 20").unwrap();
        fs::create_dir(dir.path().join("b.conf")).unwrap();
        std::os::unix::fs::symlink("/no/such/file", dir.path().join("password.conf")).unwrap();
        let files = read_files(&dir.path().join("*.conf"));
        let [Ok((_, text)), Err(directory), Err(dangling)] = &files[..] else { panic!("{files:?}") };
        assert_eq!(text, b"hz 20");
        assert!(directory.to_string().contains("b.conf"), "{directory}");
        assert!(dangling.to_string().contains("password.conf"), "{dangling}");
        assert_eq!(dangling.kind(), io::ErrorKind::NotFound);
    }
}
