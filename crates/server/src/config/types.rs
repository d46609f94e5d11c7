//! Values of directives that are more than a number or a text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::engine::{EvictionOrder, EvictionPolicy};

/// How data is kept: what `persistent`, `persist-strategy`, `appendonly` and `appendfsync` say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// A log; a reply leaves only after its change is on stable storage.
    Always,
    /// A log, on stable storage at most a second later.
    EverySecond,
    /// A log, on stable storage when the operating system likes.
    NoSync,
    /// No log; snapshots by rule and at a clean stop.
    Never,
    /// A pure cache: nothing is loaded, nothing is written.
    Disabled,
}

impl Strategy {
    /// The word of the configuration, and of `ServerStatus::strategy`.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::NoSync => "no",
            Self::Never => "never",
            Self::Disabled => "disabled",
        }
    }
}

/// One address of `bind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindAddress {
    /// The address; unspecified for `*` and `::*`.
    pub(crate) ip: IpAddr,
    /// Written with `-` in front: the start goes on if the address is not available.
    pub(crate) optional: bool,
}

impl BindAddress {
    /// Reads one word of `bind`: `[-]ADDRESS`, where `*` is every IPv4 and `::*` every IPv6 address.
    #[must_use]
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let (optional, address) = word.strip_prefix('-').map_or((false, word), |address| (true, address));
        let ip = match address {
            "*" => Ipv4Addr::UNSPECIFIED.into(),
            "::*" => Ipv6Addr::UNSPECIFIED.into(),
            address => address.parse().ok()?,
        };
        Some(Self { ip, optional })
    }

    /// This machine's own addresses, that of IPv6 if there is one.
    #[must_use]
    pub(crate) fn loopback() -> [Self; 2] {
        let address = |ip: IpAddr, optional| Self { ip, optional };
        [address(Ipv4Addr::LOCALHOST.into(), false), address(Ipv6Addr::LOCALHOST.into(), true)]
    }

    /// The address with a port.
    #[must_use]
    pub(crate) fn with_port(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.optional {
            f.write_str("-")?;
        }
        match self.ip {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => f.write_str("*"),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => f.write_str("::*"),
            ip => write!(f, "{ip}"),
        }
    }
}

/// `shutdown-on-sigterm`, `shutdown-on-sigint`: the options of `SHUTDOWN` that the signal stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShutdownOptions {
    /// Take a snapshot: yes, no, or (`None`) what the strategy and the snapshot rules ask for.
    pub save: Option<bool>,
    /// Do not wait for anything.
    pub now: bool,
    /// Stop even if the data cannot be saved.
    pub(crate) force: bool,
}

impl ShutdownOptions {
    /// The words that [`ShutdownOptions::parse`] takes.
    pub(crate) const WORDS: [&'static str; 5] = ["default", "save", "nosave", "now", "force"];

    /// Reads the words in any order.
    /// # Errors
    /// A sentence in Redis's words.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut options = Self::default();
        for word in words {
            match word.to_ascii_lowercase().as_str() {
                "default" => {}
                "now" => options.now = true,
                "force" => options.force = true,
                word @ ("save" | "nosave") => {
                    let save = word == "save";
                    if options.save == Some(!save) {
                        return Err(
                            "shutdown options SAVE and NOSAVE can't be used simultaneously".to_owned()
                        );
                    }
                    options.save = Some(save);
                }
                _ => return Err(super::units::one_of(&Self::WORDS)),
            }
        }
        Ok(options)
    }
}

impl fmt::Display for ShutdownOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let save = self.save.map(|save| if save { "save" } else { "nosave" });
        let words: Vec<_> =
            save.into_iter().chain(self.now.then_some("now")).chain(self.force.then_some("force")).collect();
        if words.is_empty() { f.write_str("default") } else { f.write_str(&words.join(" ")) }
    }
}

/// Declares an enum whose variants are words of the configuration.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// Every word.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of this value.
            #[must_use]
            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a word in lower case.
            #[must_use]
            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// `loglevel`.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// More than is needed in production.
        Verbose = "verbose",
        /// What production wants.
        Notice = "notice",
        /// Only what someone must look at.
        Warning = "warning",
    }
}

words! {
    /// `enable-debug-command`: who may use `DEBUG`.
    DebugCommand {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Connections from this machine.
        Local = "local",
    }
}

words! {
    /// `on-refusal`: what the server does when it must not start from what is on the volume.
    OnRefusal {
        /// Say why and end with an exit code.
        Exit = "exit",
        /// Say why, stay alive and unready, and wait for another decision.
        Hold = "hold",
    }
}

words! {
    /// `maxmemory-policy`: which keys go when there is no room, in the order in which Redis lists the words.
    MemoryPolicy {
        /// Of those that expire, the least recently used.
        VolatileLru = "volatile-lru",
        /// Of those that expire, the least frequently used.
        VolatileLfu = "volatile-lfu",
        /// Any that expires.
        VolatileRandom = "volatile-random",
        /// The one that expires next.
        VolatileTtl = "volatile-ttl",
        /// The least recently used.
        AllKeysLru = "allkeys-lru",
        /// The least frequently used.
        AllKeysLfu = "allkeys-lfu",
        /// Any.
        AllKeysRandom = "allkeys-random",
        /// None: writes that need memory are refused.
        NoEviction = "noeviction",
    }
}

impl MemoryPolicy {
    /// What the word stands for.
    pub(crate) fn eviction(self) -> Option<EvictionPolicy> {
        let policy = |volatile, order| Some(EvictionPolicy { volatile, order });
        match self {
            Self::VolatileLru => policy(true, EvictionOrder::LeastRecent),
            Self::VolatileLfu => policy(true, EvictionOrder::LeastFrequent),
            Self::VolatileRandom => policy(true, EvictionOrder::Random),
            Self::VolatileTtl => policy(true, EvictionOrder::NextToExpire),
            Self::AllKeysLru => policy(false, EvictionOrder::LeastRecent),
            Self::AllKeysLfu => policy(false, EvictionOrder::LeastFrequent),
            Self::AllKeysRandom => policy(false, EvictionOrder::Random),
            Self::NoEviction => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_addresses_read_and_print() {
        fn check(word: &str, expected: Option<&str>) {
            assert_eq!(
                BindAddress::parse(word).map(|address| address.with_port(1).to_string()).as_deref(),
                expected
            );
            if let Some(address) = BindAddress::parse(word) {
                assert_eq!(BindAddress::parse(&address.to_string()), Some(address));
            }
        }
        check("*", Some("0.0.0.0:1"));
        check("-::*", Some("[::]:1"));
        check("127.0.0.1", Some("127.0.0.1:1"));
        check("-::1", Some("[::1]:1"));
        check("localhost", None);
        check("", None);
        check("-", None);
    }

    #[test]
    fn shutdown_options_read_and_print() {
        fn check(words: &str, expected: &str) {
            assert_eq!(
                ShutdownOptions::parse(words.split(' '))
                    .map_or_else(|error| error, |options| options.to_string()),
                expected
            );
        }
        check("default", "default");
        check("force NOW nosave", "nosave now force");
        check("default save", "save");
        check("save nosave", "shutdown options SAVE and NOSAVE can't be used simultaneously");
        check("later", "argument(s) must be one of the following: default, save, nosave, now, force");
    }
}
