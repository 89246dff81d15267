package httpapi

import (
	"net/netip"
	"time"

	"github.com/oapi-codegen/nullable"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/keys"
)

func toCreateParams(body *api.CreateKeyRequest) (keys.CreateParams, error) {
	params := keys.CreateParams{Name: defaultName}
	if body == nil {
		return params, nil
	}
	if body.Name != nil {
		params.Name = *body.Name
	}
	if body.ExpiresInDays != nil {
		params.ExpiresInDays = int(*body.ExpiresInDays)
	}
	if body.Enabled != nil {
		params.Disabled = !*body.Enabled
	}
	params.Scopes, params.CreditLimit = fromScopes(body.Scopes), body.CreditLimit
	params.RateLimit, params.Metadata = fromRateLimit(body.RateLimit), deref(body.Metadata)
	var err error
	params.AllowedIPs, err = fromIPs(body.AllowedIps)
	return params, err
}

func toUpdateParams(body *api.UpdateKeyRequest) (keys.UpdateParams, error) {
	p := keys.UpdateParams{
		ExpiresAt:   change(body.ExpiresAt, func(t time.Time) *time.Time { return &t }),
		Scopes:      change(body.Scopes, fromScopes),
		CreditLimit: change(body.CreditLimit, func(n int64) *int64 { return &n }),
		RateLimit:   change(body.RateLimit, func(r api.RateLimit) *keys.RateLimit { return fromRateLimit(&r) }),
		Metadata:    change(body.Metadata, func(m api.Metadata) map[string]string { return m }),
	}
	if body.Name != nil {
		p.Name = keys.Change[string]{Set: true, Value: *body.Name}
	}
	if body.Enabled != nil {
		p.Disabled = keys.Change[bool]{Set: true, Value: !*body.Enabled}
	}
	if !body.AllowedIps.IsSpecified() {
		return p, nil
	}
	p.AllowedIPs.Set = true
	if body.AllowedIps.IsNull() {
		return p, nil
	}
	var err error
	p.AllowedIPs.Value, err = fromIPs(body.AllowedIps.MustGet())
	return p, err
}

// change reads a field that may be left out, null, or have a value.
func change[A, B any](n nullable.Nullable[A], convert func(A) B) keys.Change[B] {
	c := keys.Change[B]{Set: n.IsSpecified()}
	if c.Set && !n.IsNull() {
		c.Value = convert(n.MustGet())
	}
	return c
}

func fromScopes(scopes []api.Scope) []keys.Scope {
	if scopes == nil {
		return nil
	}
	converted := make([]keys.Scope, len(scopes))
	for i, s := range scopes {
		converted[i] = keys.Scope(s)
	}
	return converted
}

func fromRateLimit(r *api.RateLimit) *keys.RateLimit {
	if r == nil {
		return nil
	}
	return &keys.RateLimit{Requests: r.Requests, Window: time.Duration(r.WindowSeconds) * time.Second}
}

func fromIPs(texts []string) ([]netip.Prefix, error) {
	if texts == nil {
		return nil, nil
	}
	return keys.ParseIPs("allowedIps", texts)
}

func toScopes(scopes []keys.Scope) []api.Scope {
	if scopes == nil {
		return nil
	}
	converted := make([]api.Scope, len(scopes))
	for i, s := range scopes {
		converted[i] = api.Scope(s)
	}
	return converted
}

func toRateLimit(r *keys.RateLimit) *api.RateLimit {
	if r == nil {
		return nil
	}
	return &api.RateLimit{Requests: r.Requests, WindowSeconds: int32(r.Window / time.Second)}
}

func toMetadata(m map[string]string) *api.Metadata {
	if m == nil {
		return nil
	}
	metadata := api.Metadata(m)
	return &metadata
}
