//! Connections.

use super::{Argument, Usage, block, integer, one_of, string, word};

const ON_OFF: &[Argument] = &[word("ON"), word("OFF")];
const CLIENT_ID: Argument = integer("client-id");

pub(crate) const PING: Usage = Usage::new(&[string("message").optional()]);
pub(crate) const ECHO: Usage = Usage::new(&[string("message")]);
pub(crate) const AUTH: Usage =
    Usage::new(&[string("username").optional().since("6.0.0"), string("password")])
        .changed(&[("6.0.0", "Takes the name of a user.")]);
pub(crate) const HELLO: Usage = Usage::new(&[block(
    "arguments",
    &[
        integer("protover"),
        block("username_password", &[string("username"), string("password")]).after("AUTH").optional(),
        string("clientname").after("SETNAME").optional(),
    ],
)
.optional()])
.changed(&[("6.2.0", "Describes the connection when no version is given.")]);
pub(crate) const SELECT: Usage = Usage::new(&[integer("index")]);

pub(crate) const CLIENT_SETNAME: Usage = Usage::new(&[string("connection-name")]);
pub(crate) const CLIENT_LIST: Usage = Usage::new(&[
    one_of(
        "normal_master_replica_pubsub",
        &[word("NORMAL"), word("MASTER"), word("REPLICA"), word("PUBSUB")],
    )
    .after("TYPE")
    .optional()
    .since("5.0.0"),
    block("id", &[CLIENT_ID.repeated()]).after("ID").optional().since("6.2.0"),
])
.changed(&[
    ("2.8.12", "Shows `id`."),
    ("5.0.0", "Takes `TYPE`."),
    ("6.0.0", "Shows `user`."),
    ("6.2.0", "Takes `ID`; shows `argv-mem`, `tot-mem`, `laddr` and `redir`."),
    ("7.0.0", "Shows `resp`, `multi-mem`, `rbs` and `rbp`."),
    ("7.0.3", "Shows `ssub`."),
]);
pub(crate) const CLIENT_KILL: Usage = Usage::new(&[one_of(
    "filter",
    &[
        string("ip:port").deprecated_since("2.8.12"),
        one_of(
            "new-format",
            &[
                CLIENT_ID.after("ID").optional().since("2.8.12"),
                one_of(
                    "normal_master_slave_pubsub",
                    &[
                        word("NORMAL"),
                        word("MASTER").since("3.2.0"),
                        word("SLAVE"),
                        word("REPLICA").since("5.0.0"),
                        word("PUBSUB"),
                    ],
                )
                .after("TYPE")
                .optional()
                .since("2.8.12"),
                string("username").after("USER").optional(),
                string("ip:port").after("ADDR").optional(),
                string("ip:port").after("LADDR").optional().since("6.2.0"),
                string("yes/no").after("SKIPME").optional(),
            ],
        )
        .repeated(),
    ],
)])
.changed(&[
    ("2.8.12", "Takes filters."),
    ("2.8.12", "Takes `ID`."),
    ("3.2.0", "Takes `TYPE MASTER`."),
    ("5.0.0", "Takes `TYPE REPLICA`, and the former name as before."),
    ("6.2.0", "Takes `LADDR`."),
]);
pub(crate) const CLIENT_UNBLOCK: Usage =
    Usage::new(&[CLIENT_ID, one_of("timeout_error", &[word("TIMEOUT"), word("ERROR")]).optional()]);
pub(crate) const CLIENT_REPLY: Usage =
    Usage::new(&[one_of("on_off_skip", &[word("ON"), word("OFF"), word("SKIP")])]);
pub(crate) const CLIENT_NO_EVICT: Usage = Usage::new(&[one_of("enabled", ON_OFF)]);
pub(crate) const CLIENT_PAUSE: Usage = Usage::new(&[
    integer("timeout"),
    one_of("mode", &[word("WRITE"), word("ALL")]).optional().since("6.2.0"),
])
.changed(&[("6.2.0", "Takes `WRITE` and `ALL`.")]);
pub(crate) const CLIENT_TRACKING: Usage = Usage::new(&[
    one_of("status", ON_OFF),
    CLIENT_ID.after("REDIRECT").optional(),
    string("prefix").after("PREFIX").optional().repeated_with_token(),
    word("BCAST").optional(),
    word("OPTIN").optional(),
    word("OPTOUT").optional(),
    word("NOLOOP").optional(),
]);
pub(crate) const CLIENT_CACHING: Usage = Usage::new(&[one_of("mode", &[word("YES"), word("NO")])]);
pub(crate) const CLIENT_NO_TOUCH: Usage = Usage::new(&[one_of("enabled", ON_OFF)]);
pub(crate) const CLIENT_SETINFO: Usage =
    Usage::new(&[one_of("attr", &[string("libname").after("lib-name"), string("libver").after("lib-ver")])]);
