package keys

import (
	"context"
	"time"
)

// Code is whether a key may be used, and if not, why. The contract lists the codes.
type Code string

// The codes that a key's own state decides.
const (
	Valid             Code = "valid"
	NotFound          Code = "not_found"
	Revoked           Code = "revoked"
	Expired           Code = "expired"
	Disabled          Code = "disabled"
	AccountSuspended  Code = "account_suspended"
	InsufficientScope Code = "insufficient_scope"
	IPNotAllowed      Code = "ip_not_allowed"
)

// Verify tells whether a raw key may be used from the address, for the scope, "" for any. known is nil if there is no
// such key. It reads the database only if the key is not in memory, or this server holds no lease; an error says that
// nothing is known.
func (k *Keys) Verify(ctx context.Context, raw, ip string, scope Scope) (code Code, known *Known, err error) {
	secret, ok := k.Format.parse(raw)
	if !ok {
		return NotFound, nil, nil
	}
	if known, err = k.know(ctx, secret); err != nil || known == nil {
		return NotFound, nil, err
	}
	now := k.Now()
	code = known.judge(now, ip, scope)
	if code == Valid {
		k.lastUsed.note(known.KeyID, now)
	}
	return code, known, nil
}

// judge weighs what a stranger may learn least first: the rest is told only about keys that would work.
func (k *Known) judge(now time.Time, ip string, scope Scope) Code {
	switch {
	case k.revoked:
		return Revoked
	case k.expired(now):
		return Expired
	case k.Disabled:
		return Disabled
	case k.Account.suspended:
		return AccountSuspended
	case scope != "" && !k.Allows(scope):
		return InsufficientScope
	case !k.allowsIP(ip):
		return IPNotAllowed
	}
	return Valid
}

// know returns what is known of a key, from memory if that may be.
func (k *Keys) know(ctx context.Context, s Secret) (*Known, error) {
	// The lease is looked at before memory is read, see internal/leases.
	if k.Leased != nil && k.Leased() {
		if known, ok := k.recall(s); ok {
			return known, nil
		}
	}
	generation := k.cache.generation()
	known, err := k.lookups.do(ctx, k.Peppers.hashes(s))
	if err != nil {
		return nil, err
	}
	at := k.Peppers.digest(k.Peppers.current, s)
	if known != nil {
		at = known.digest
	}
	k.cache.put(at, known, generation)
	return known, nil
}

// recall returns what memory has of a key, nil if it has that there is none. A key may be hashed under any pepper, but
// that it does not exist is remembered under the current one.
func (k *Keys) recall(s Secret) (known *Known, ok bool) {
	for _, version := range k.Peppers.versions {
		known, unknown := k.cache.get(k.Peppers.digest(version, s))
		if known != nil || unknown {
			return known, true
		}
	}
	return nil, false
}
