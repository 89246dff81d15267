package httpapi

import (
	"fmt"
	"strings"
	"time"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/keys"
)

const saveThisKey = "Save this key - it will not be shown again."

// second is a time as the contract shows it: in UTC, to the second.
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func optionalSecond(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	shown := second(*t)
	return &shown
}

func toCreatedKey(k keys.Created) api.CreatedKey {
	return api.CreatedKey{
		ID: k.ID, Key: k.Secret.Reveal(), Name: k.Name, ExpiresAt: optionalSecond(k.ExpiresAt), Message: saveThisKey,
	}
}

func toRotatedKey(k keys.Created) api.RotatedKey {
	return api.RotatedKey{ID: k.ID, Key: k.Secret.Reveal(), Name: k.Name, Message: saveThisKey}
}

func toKey(k keys.Key) api.Key {
	key := api.Key{
		ID: k.ID, Name: k.Name, Prefix: k.Prefix, CreatedAt: second(k.CreatedAt),
		ExpiresAt: optionalSecond(k.ExpiresAt), LastUsedAt: optionalSecond(k.LastUsedAt),
		Scopes: toScopes(k.Scopes), CreditLimit: k.CreditLimit, RateLimit: toRateLimit(k.RateLimit),
		AllowedIps: k.IPTexts(), Metadata: toMetadata(k.Metadata),
	}
	if k.Disabled { // left out otherwise, so that a key without controls looks as it always did
		enabled := false
		key.Enabled = &enabled
	}
	return key
}

func toAccount(a accounts.Account) api.Account {
	status := api.AccountStatusActive
	if a.SuspendedAt != nil {
		status = api.AccountStatusSuspended
	}
	return api.Account{
		ID: a.ID, ExternalID: a.ExternalID, Name: a.Name, Email: a.Email, Tier: api.Tier(a.Tier), Status: status,
		StripeCustomerID: a.StripeCustomerID, CreatedAt: second(a.CreatedAt),
	}
}

func toCredits(b credits.Balance) api.Credits {
	return api.Credits{Used: b.Used(), Limit: b.Granted, Remaining: b.Remaining(), Overage: unlessZero(b.Over())}
}

// page converts the items of a list and names the cursor of the next page.
func page[T, U any](items []T, more bool, convert func(T) U, id func(T) string) (data []U, next *string) {
	data = make([]U, len(items))
	for i, item := range items {
		data[i] = convert(item)
	}
	if more {
		last := id(items[len(items)-1])
		next = &last
	}
	return data, next
}

// dollars writes micro-dollars as an exact decimal, at least to the cent.
func dollars(micros int64) string {
	text := fmt.Sprintf("%d.%06d", micros/1_000_000, micros%1_000_000)
	for strings.HasSuffix(text, "0") && len(text)-strings.IndexByte(text, '.') > 3 {
		text = text[:len(text)-1]
	}
	return text
}
