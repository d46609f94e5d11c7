#!/bin/sh
# Makes the certificates that a gateway shows in tests: an authority and a certificate of it, both valid from 2020 to 2120,
# and one that expired in 2021. The authority's key is thrown away. Needs OpenSSL 3; run it in this directory.
set -eu
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt; }
key > "$work/authority.key"
key > gateway.key
cat > "$work/ca.cnf" <<END
[ca]
default_ca = test
[test]
new_certs_dir = $work
database = $work/index
unique_subject = no
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[gateway]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
extendedKeyUsage = serverAuth
END
: > "$work/index"
request() { openssl req -new -key "$1" -subj "/CN=$2" -out "$work/$2.csr"; }
sign() { openssl ca -batch -notext -config "$work/ca.cnf" -keyfile "$work/authority.key" "$@"; }
request "$work/authority.key" "Holdfast test authority"
sign -selfsign -in "$work/Holdfast test authority.csr" -extensions authority \
    -startdate 20200101000000Z -enddate 21200101000000Z -out authority.pem
request gateway.key 127.0.0.1
sign -cert authority.pem -in "$work/127.0.0.1.csr" -extensions gateway \
    -startdate 20200101000000Z -enddate 21200101000000Z -out gateway.pem
sign -cert authority.pem -in "$work/127.0.0.1.csr" -extensions gateway \
    -startdate 20200101000000Z -enddate 20210101000000Z -out expired.pem
