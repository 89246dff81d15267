package credits

import "time"

// OwnSource is the source of periods that follow the account's own monthly day. Other sources are the ids of Stripe
// subscriptions.
const OwnSource = "own"

// Cycle is what billing periods follow: whole months counted from an anchor. Start is where the current one begins.
type Cycle struct {
	Source        string
	Anchor, Start time.Time
}

// end returns when the period ends that begins at Start: with its month or, if it began before the anchor, there.
func (c Cycle) end() time.Time {
	if c.Start.Before(c.Anchor) {
		return c.Anchor
	}
	return addMonths(c.Anchor, monthsUntil(c.Anchor, c.Start)+1)
}

// addMonths returns the instant n months after anchor, in UTC. A day that the month lacks becomes its last, so that
// the 31st comes back after a shorter month; Stripe does the same.
func addMonths(anchor time.Time, n int) time.Time {
	anchor = anchor.UTC()
	moved := anchor.AddDate(0, n, 0)
	if moved.Day() != anchor.Day() {
		return moved.AddDate(0, 0, -moved.Day())
	}
	return moved
}

// monthsUntil returns the number of whole months from anchor to at, 0 if at is before anchor.
func monthsUntil(anchor, at time.Time) int {
	anchor, at = anchor.UTC(), at.UTC()
	n := (at.Year()-anchor.Year())*12 + int(at.Month()) - int(anchor.Month())
	for n > 0 && addMonths(anchor, n).After(at) {
		n--
	}
	return max(n, 0)
}

func midnight(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}
