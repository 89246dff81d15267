package keys

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
)

// Scope is what a key may be used for. The contract lists the scopes there are.
type Scope string

// The scopes beside the categories of usage.
const (
	ManageKeys    Scope = "keys:manage"
	ReadUsage     Scope = "usage:read"
	ManageBilling Scope = "billing:manage"
)

// RateLimit is at most so many requests in each window.
type RateLimit struct {
	Requests int32
	Window   time.Duration
}

// Controls are what limits a key. The zero value limits nothing.
type Controls struct {
	Disabled    bool
	Scopes      []Scope // nil for everything
	CreditLimit *int64  // in a billing period; nil for no limit of its own
	RateLimit   *RateLimit
	AllowedIPs  []netip.Prefix // nil for any
	Metadata    map[string]string
}

// ParseIPs reads addresses and networks. field is how the contract names them.
func ParseIPs(field string, texts []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(text); err == nil {
				prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
			}
		}
		if err != nil || prefix.Addr().Is4In6() {
			return nil, fault.InvalidField(fmt.Sprintf("%s[%d]", field, i), "is not an address or a network such as 203.0.113.0/24")
		}
		prefixes[i] = prefix.Masked()
	}
	return prefixes, nil
}

// Allows reports whether the key may be used for the scope.
func (c Controls) Allows(scope Scope) bool {
	return c.Scopes == nil || slices.Contains(c.Scopes, scope)
}

// covers reports whether whoever has c may give out other: a key can't make one that may do more than itself.
func (c Controls) covers(scopes []Scope) bool {
	if c.Scopes == nil {
		return true
	}
	return scopes != nil && !slices.ContainsFunc(scopes, func(s Scope) bool { return !c.Allows(s) })
}

func (c Controls) allowsIP(ip string) bool {
	if c.AllowedIPs == nil {
		return true
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return false // without an address, or with one that is none, it can't be on the list
	}
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(c.AllowedIPs, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Change is a part of a key to change. The zero value leaves it as it is.
type Change[T any] struct {
	Set   bool
	Value T
}

func (c Change[T]) apply(to *T) {
	if c.Set {
		*to = c.Value
	}
}

// UpdateParams says what to change.
type UpdateParams struct {
	Name        Change[string]
	ExpiresAt   Change[*time.Time]
	Disabled    Change[bool]
	Scopes      Change[[]Scope]
	CreditLimit Change[*int64]
	RateLimit   Change[*RateLimit]
	AllowedIPs  Change[[]netip.Prefix]
	Metadata    Change[map[string]string]
}

func (p UpdateParams) apply(k *Key) {
	p.Name.apply(&k.Name)
	p.ExpiresAt.apply(&k.ExpiresAt)
	p.Disabled.apply(&k.Disabled)
	p.Scopes.apply(&k.Scopes)
	p.CreditLimit.apply(&k.CreditLimit)
	p.RateLimit.apply(&k.RateLimit)
	p.AllowedIPs.apply(&k.AllowedIPs)
	p.Metadata.apply(&k.Metadata)
	k.Metadata = maps.Clone(k.Metadata)
}

func ipTexts(prefixes []netip.Prefix) []string {
	if prefixes == nil {
		return nil
	}
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = strings.TrimSuffix(p.String(), fmt.Sprintf("/%d", p.Addr().BitLen()))
	}
	return texts
}

// IPTexts returns the allow-list as the contract shows it: a single address without its length.
func (c Controls) IPTexts() []string { return ipTexts(c.AllowedIPs) }
