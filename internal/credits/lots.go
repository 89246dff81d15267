package credits

import (
	"cmp"
	"slices"
	"time"
)

// lot is what is left of a grant, before what the open period uses of it.
type lot struct {
	id, source string
	kind       Kind
	period     int32 // that it was given in
	available  int64
	createdAt  time.Time
	expiresAt  *time.Time // nil is never
}

func (l lot) expired(at time.Time) bool { return l.expiresAt != nil && !at.Before(*l.expiresAt) }

// settled reports whether the lot had expired when its period was last refreshed, which then held until a time.
func (l lot) settled(validUntil time.Time) bool {
	return l.expired(validUntil.Add(-time.Microsecond)) && l.createdAt.Before(*l.expiresAt)
}

// endsWith reports whether the lot ends with the period, however that ends: it is an advance on the period's own credits,
// or these and carries nothing over.
func (l lot) endsWith(b Balance) bool {
	switch {
	case l.period != b.Period:
		return false
	case l.kind == MonthlyGrant:
		return l.expired(addMonths(b.Cycle.Anchor, b.months+1))
	}
	return l.kind == BridgeGrant
}

// lots are an account's, in the order in which they are used up: what expires first, and what never does last. Of those
// that expire together, what was given by us goes before what was paid for.
type lots []lot

func (ls lots) sort() {
	slices.SortFunc(ls, func(a, b lot) int {
		return cmp.Or(
			compareExpiry(a.expiresAt, b.expiresAt), cmp.Compare(a.kind.rank(), b.kind.rank()),
			a.createdAt.Compare(b.createdAt), cmp.Compare(a.id, b.id))
	})
}

func compareExpiry(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Compare(*b)
}

func (k Kind) rank() int {
	return slices.Index([]Kind{BridgeGrant, Promotional, Adjustment, MonthlyGrant, TopUp}, k)
}

// burns returns how much of each lot a use takes, in their order, and what is over.
//
// The order is applied to a period as a whole: what was used before a lot was given can burn it. A lot that has expired
// comes first, and holds only what had been used of it by then.
func (ls lots) burns(used int64) (burned []int64, over int64) {
	burned = make([]int64, len(ls))
	used = max(0, used)
	for i, l := range ls {
		burned[i] = min(used, l.available)
		used -= burned[i]
	}
	return burned, used
}

// nextExpiry returns when the next of the lots expires after a time, or end if that is sooner.
func (ls lots) nextExpiry(after, end time.Time) time.Time {
	for _, l := range ls {
		if l.expiresAt != nil && l.expiresAt.After(after) && l.expiresAt.Before(end) {
			end = *l.expiresAt
		}
	}
	return end
}

// total is what the lots grant in the open period.
func (ls lots) total() int64 {
	var sum int64
	for _, l := range ls {
		sum += l.available
	}
	return sum
}
