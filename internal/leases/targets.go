package leases

import "encoding/hex"

// Key names a key by its hash, as a target of TakeTx: it is forgotten.
func Key(hash []byte) string { return "key:" + hex.EncodeToString(hash) }

// Account names an account, as a target of TakeTx: what is known of it is forgotten, and of all its keys.
func Account(id string) string { return "account:" + id }
