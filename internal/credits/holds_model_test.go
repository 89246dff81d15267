package credits

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/testkit"
)

// Spends, holds, settlements, releases, reversals, limits and the ends of holds and periods, in whatever order: each is
// answered as a simple model says, and after each the ledger adds up. Which periods there are is not the matter here
// (see TestLedgerFollowsTheModel), so the model takes them from the ledger.
func TestHoldsFollowTheModel(t *testing.T) {
	t.Parallel()
	pool := testkit.DB(t)
	clock := testkit.NewClock(theStart())
	f := fixtureOn(t, pool, clock)
	rapid.Check(t, func(t *rapid.T) {
		f.exec(`TRUNCATE usage_events, usage_totals, usage_hours, key_budgets, reservations, credit_grants, credit_burns, credit_losses, overages, balances, api_keys, accounts
			CASCADE`)
		clock.Set(theStart())
		h := &holder{t: t, f: f, books: map[string]*book{}, limits: map[string]*int64{}}
		for _, id := range []string{"acct_free", "acct_paid"} {
			tier := plans.Free
			if id == "acct_paid" {
				tier = plans.Starter
			}
			f.account(id, tier)
			h.books[id] = &book{id: id, events: map[string]*bookEvent{}, holds: map[string]*bookHold{}}
			for _, key := range []string{"x", "y"} { // two keys of a family
				f.key(id+key, id, id+"x", nil)
			}
		}
		steps := rapid.IntRange(5, 40).Draw(t, "steps")
		for range steps {
			h.step()
			f.audit(t)
		}
	})
}

// holder drives the ledger and the books side by side.
type holder struct {
	t      *rapid.T
	f      *fixture
	books  map[string]*book
	limits map[string]*int64 // by account, of its family of keys
	made   int
}

// book is what is known of an account.
type book struct {
	id               string
	now              time.Time
	period           int32
	starts           time.Time
	capped           bool
	granted          int64
	used, familyUsed int64 // in this period
	events           map[string]*bookEvent
	holds            map[string]*bookHold // by event id
}

type bookEvent struct {
	sent     string
	credits  int64
	late     bool
	keyed    bool
	period   int32
	reversed bool
}

type bookHold struct {
	asked    string
	got      Reservation
	keyed    bool
	period   int32
	made     time.Time
	settling string
}

// held is what counts as spent for holds of this period.
func (b *book) held(keyedOnly bool) (sum int64) {
	for _, h := range b.holds {
		if h.got.State == Held && h.period == b.period && (h.keyed || !keyedOnly) {
			sum += h.got.Held
		}
	}
	return sum
}

func (b *book) remaining() int64 { return max(0, b.granted-b.used-b.held(false)) }

// refuse says why credits can't be spent, "" if they can.
func (b *book) refuse(credits int64, keyed bool, limit *int64) string {
	switch {
	case credits > 0 && b.capped && credits > b.granted-b.used-b.held(false):
		return "credits_exhausted"
	case credits > 0 && keyed && limit != nil && credits > *limit-b.familyUsed-b.held(true):
		return "key_limit_exceeded"
	}
	return ""
}

func (b *book) enter(id string, e bookEvent) {
	e.period = b.period
	b.used += e.credits
	if e.keyed {
		b.familyUsed += e.credits
	}
	b.events[id] = &e
}

// open brings the book to the current time and period.
func (h *holder) open(b *book) {
	b.now = h.f.clock.Now()
	current := h.f.current(b.id)
	if b.granted == 0 || current.Period != b.period {
		b.used, b.familyUsed = 0, 0
	}
	b.period, b.starts, b.capped, b.granted = current.Period, current.StartsAt, capped(current), current.Granted
	require.Equal(h.t, b.used, current.Used())
	for _, hold := range b.holds {
		if hold.got.State == Held && !b.now.Before(hold.got.ExpiresAt) {
			hold.got.State = Expired
		}
	}
}

func (h *holder) step() {
	b := h.books[rapid.SampledFrom([]string{"acct_free", "acct_free", "acct_paid"}).Draw(h.t, "account")]
	h.open(b)
	switch rapid.SampledFrom([]string{
		"spend", "spend", "spend", "reserve", "reserve", "settle", "settle", "settle", "release", "reverse", "reverse", "limit",
		"wait", "wait", "expire", "plan",
	}).Draw(h.t, "step") {
	case "spend":
		h.spend(b)
	case "reserve":
		h.reserve(b)
	case "settle":
		h.settle(b)
	case "release":
		h.release(b)
	case "reverse":
		h.reverse(b)
	case "limit":
		h.limits[b.id] = rapid.SampledFrom([]*int64{nil, pointer[int64](0), pointer[int64](300), pointer[int64](1500)}).Draw(h.t, "limit")
		h.f.exec("UPDATE api_keys SET credit_limit = $2 WHERE account_id = $1", b.id, h.limits[b.id])
	case "wait":
		h.f.clock.Advance(rapid.SampledFrom([]time.Duration{
			time.Second, 20 * time.Second, 59 * time.Second, time.Hour, 10 * 24 * time.Hour, 31 * 24 * time.Hour,
		}).Draw(h.t, "wait"))
	case "expire":
		require.NoError(h.t, h.f.ExpireHolds(context.Background()))
		h.nothingStuck()
	case "plan":
		h.f.clock.Advance(time.Second)
		tier := rapid.SampledFrom([]plans.Tier{plans.Free, plans.Starter}).Draw(h.t, "tier")
		if b.id == "acct_paid" {
			tier = plans.Pro
		}
		h.f.plan(b.id, tier, nil)
	}
}

// wantErrorCode is wantFault for rapid.
func wantErrorCode(t *rapid.T, code string, err error) {
	var refusal *fault.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code)
}

func (h *holder) nothingStuck() {
	now := h.f.clock.Now()
	var stuck int
	require.NoError(h.t, h.f.pool.QueryRow(context.Background(),
		"SELECT count(*) FROM reservations WHERE state = 'held' AND expires_at <= $1", now).Scan(&stuck))
	require.Zero(h.t, stuck)
}

// id draws the id of an event, often one that was used before.
func (h *holder) id() string {
	h.made++
	return rapid.SampledFrom([]string{
		"a", "b", "c", fmt.Sprint("new", h.made), fmt.Sprint("new", h.made), "reversal:a",
	}).Draw(h.t, "id")
}

func (h *holder) credits() int64 {
	return rapid.SampledFrom([]int64{0, 1, 100, 299, 900, 1500, 2500}).Draw(h.t, "credits")
}

// whose draws who is named: the account, or one of its keys.
func (h *holder) whose(b *book) (accountID, keyID string) {
	switch rapid.IntRange(0, 2).Draw(h.t, "whose") {
	case 0:
		return "", b.id + "x"
	case 1:
		return "", b.id + "y"
	}
	return b.id, ""
}

func (h *holder) spend(b *book) {
	n := rapid.SampledFrom([]int{1, 1, 2, 5}).Draw(h.t, "events")
	var events []Event
	for range n {
		e := Event{ID: h.id(), Category: plans.LLM, Credits: pointer(h.credits())}
		e.AccountID, e.KeyID = h.whose(b)
		if ago := rapid.SampledFrom([]int{0, 0, 1, 30}).Draw(h.t, "days ago"); ago > 0 {
			e.OccurredAt = pointer(b.now.AddDate(0, 0, -ago))
		}
		events = append(events, e)
	}
	for i, got := range h.f.spend(events...) {
		want := h.wantSpend(b, events[i])
		code := ""
		if got.Refusal != nil {
			code = got.Refusal.Code
			got.Refusal = nil
		}
		require.Equal(h.t, want.code, code, "%d of %v", i, describe(events))
		require.Equal(h.t, want.Outcome, got)
	}
}

type wantedOutcome struct {
	Outcome
	code string
}

func (h *holder) wantSpend(b *book, e Event) wantedOutcome {
	sent := fmt.Sprint(e.KeyID, *e.Credits, e.OccurredAt)
	limit, keyed := h.limits[b.id], e.KeyID != ""
	var w wantedOutcome
	before := b.events[e.ID]
	switch {
	case b.holds[e.ID] != nil, before != nil && before.sent != sent:
		w.code = "event_conflict"
	case before != nil:
		w.Outcome = Outcome{Credits: before.credits, Late: before.late, Duplicate: true}
	default:
		if w.code = b.refuse(*e.Credits, keyed, limit); w.code == "" {
			late := e.OccurredAt != nil && e.OccurredAt.Before(b.starts)
			b.enter(e.ID, bookEvent{sent: sent, credits: *e.Credits, late: late, keyed: keyed})
			w.Outcome = Outcome{Credits: *e.Credits, Late: late}
		}
	}
	w.Remaining = b.remaining()
	if keyed && limit != nil {
		w.KeyRemaining = pointer(max(0, *limit-b.familyUsed-b.held(true)))
	}
	return w
}

func (h *holder) reserve(b *book) {
	wish := Hold{EventID: h.id(), Category: plans.LLM, Credits: max(1, h.credits()), TTL: time.Minute}
	wish.AccountID, wish.KeyID = h.whose(b)
	asked := fmt.Sprint(wish.KeyID, wish.Credits)
	got, err := h.f.Reserve(context.Background(), wish)
	switch before := b.holds[wish.EventID]; {
	case before != nil && before.asked == asked:
		require.NoError(h.t, err)
		require.Equal(h.t, public(before.got), public(got))
		return
	case before != nil, b.events[wish.EventID] != nil:
		wantErrorCode(h.t, "event_conflict", err)
		return
	}
	if code := b.refuse(wish.Credits, wish.KeyID != "", h.limits[b.id]); code != "" {
		wantErrorCode(h.t, code, err)
		return
	}
	require.NoError(h.t, err)
	b.holds[wish.EventID] = &bookHold{asked: asked, got: got, keyed: wish.KeyID != "", period: b.period, made: b.now}
}

// hold draws one of the holds there are.
func (h *holder) hold(b *book) *bookHold {
	var all []string
	for _, id := range []string{"a", "b", "c", "reversal:a"} {
		if b.holds[id] != nil {
			all = append(all, id)
		}
	}
	for i := range h.made + 1 {
		if id := fmt.Sprint("new", i); b.holds[id] != nil {
			all = append(all, id)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return b.holds[rapid.SampledFrom(all).Draw(h.t, "hold")]
}

func (h *holder) settle(b *book) {
	hold := h.hold(b)
	if hold == nil {
		return
	}
	cost := h.credits()
	got, err := h.f.Settle(context.Background(), hold.got.ID, costs(cost))
	settling := fmt.Sprint(cost)
	switch {
	case hold.got.State == Released:
		wantErrorCode(h.t, "reservation_released", err)
		return
	case hold.got.State == Settled && hold.settling != settling:
		wantErrorCode(h.t, "reservation_settled", err)
		return
	case hold.got.State != Settled:
		room := int64(1 << 60)
		if b.capped {
			room = b.remaining()
		}
		if limit := h.limits[b.id]; hold.keyed && limit != nil {
			room = min(room, max(0, *limit-b.familyUsed-b.held(true)))
		}
		if hold.got.State == Held && hold.period == b.period {
			room += hold.got.Held
		}
		hold.got.State, hold.settling = Settled, settling
		hold.got.Credits = min(cost, room)
		hold.got.Uncollected = cost - hold.got.Credits
		b.enter(hold.got.EventID, bookEvent{credits: hold.got.Credits, keyed: hold.keyed, late: hold.made.Before(b.starts)})
	}
	require.NoError(h.t, err)
	require.Equal(h.t, public(hold.got), public(got))
}

func (h *holder) release(b *book) {
	hold := h.hold(b)
	if hold == nil {
		return
	}
	got, err := h.f.Release(context.Background(), hold.got.ID)
	if hold.got.State == Settled {
		wantErrorCode(h.t, "reservation_settled", err)
		return
	}
	if hold.got.State == Held {
		hold.got.State = Released
	}
	require.NoError(h.t, err)
	require.Equal(h.t, public(hold.got), public(got))
}

func (h *holder) reverse(b *book) {
	id := h.id()
	got, err := h.f.Reverse(context.Background(), b.id, id)
	e, reversalID := b.events[id], "reversal:"+id
	taken := b.events[reversalID]
	switch {
	case e == nil, e.sent == "reversal":
		wantErrorCode(h.t, "event_not_found", err)
		return
	case e.reversed:
	case taken != nil || b.holds[reversalID] != nil:
		wantErrorCode(h.t, "event_conflict", err)
		return
	}
	require.NoError(h.t, err)
	require.Equal(h.t, Reversal{ID: reversalID, Reverses: id, Credits: e.credits, Duplicate: e.reversed}, got)
	if e.reversed {
		return
	}
	e.reversed = true
	correction := bookEvent{sent: "reversal", keyed: e.keyed, credits: -e.credits}
	if e.period != b.period {
		correction.credits = 0
		b.granted += e.credits
	}
	b.enter(reversalID, correction)
}
