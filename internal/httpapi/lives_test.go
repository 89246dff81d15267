package httpapi_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A life is what happens to an account over simulated months: it subscribes, spends, changes plans, fails to pay, leaves
// and comes back. Each is lived twice, at the same times: the webhooks of one arrive at once and in order, those of its
// twin are lost, doubled, mixed up and late. Whatever happened, both end alike, and the money adds up.

// livesTogether is how many lives one run has at most. They share the clock, and so are settled together.
const livesTogether = 4

// batch is lives that share their time.
type batch struct {
	Lives int
	Seed  uint64 // of what becomes of the twins' webhooks
	Steps []step
}

// step is a time that passes and what every life does then.
type step struct {
	Pass passing
	Deaf bool // nothing of Stripe's arrives, and nobody asks it
	Acts []act
}

// act is what a life does at a step: it spends, does something about its subscription, and spends again.
type act struct {
	Early, Late int // credits
	Do          deed
	N           int // what the deed makes of it
}

// passing is how far a step moves the time: by a while, or to the next renewal and a while more.
type passing struct {
	ToRenewal bool
	By        time.Duration
}

// deed is something that somebody does about an account's subscription.
type deed string

const (
	nothing        deed = "nothing"
	subscribes     deed = "subscribes" // or changes the plan, at the end of the period if it is to a lesser one
	moved          deed = "is moved to another plan in the Dashboard"
	leaves         deed = "leaves at the end of the period"
	leavesNow      deed = "leaves at once"
	stays          deed = "takes the cancellation back"
	cardFails      deed = "has a card that declines"
	cardWorks      deed = "has a card that works"
	paysOpen       deed = "pays what is open"
	topsUp         deed = "buys credits"
	topUpRefunded  deed = "has a top-up refunded"
	topUpDisputed  deed = "disputes a top-up"
	disputeEnds    deed = "has a dispute decided"
	planRefunded   deed = "has the last invoice refunded"
	limits         deed = "limits its overage"
	unlimited      deed = "takes the limit back"
	subscribesMore deed = "is given a second subscription in the Dashboard"
	paused         deed = "has its collection paused"
	resumed        deed = "has its collection resumed"
)

// deeds has what is to happen often more than once.
var deeds = []deed{
	nothing, subscribes, subscribes, subscribes, subscribes, subscribes, moved, leaves, leavesNow, stays, cardFails,
	cardFails, cardWorks, paysOpen, topsUp, topUpRefunded, topUpDisputed, disputeEnds, planRefunded, limits, unlimited, subscribesMore, paused, resumed,
}

var (
	tiers    = []string{"starter", "pro", "scale"}
	spending = []int{0, 0, 1, 37, 2500, 20_000, 60_007, 250_003, 1_100_001}
	whiles   = []time.Duration{
		time.Minute, 20 * time.Minute, 61 * time.Minute, 5 * time.Hour, 30 * time.Hour, 73 * time.Hour,
		8 * day, 15 * day, 32 * day, 70 * day,
	}
	afterRenewal = []time.Duration{-time.Minute, 0, time.Second, 20 * time.Minute, 61 * time.Minute, 4 * day}
)

const day = 24 * time.Hour

func batches() *rapid.Generator[batch] {
	return rapid.Custom(func(t *rapid.T) batch {
		b := batch{Lives: rapid.IntRange(1, livesTogether).Draw(t, "lives"), Seed: rapid.Uint64().Draw(t, "seed")}
		one := rapid.Custom(func(t *rapid.T) step { return drawStep(t, b.Lives) })
		b.Steps = rapid.SliceOfN(one, 3, 12).Draw(t, "steps")
		return b
	})
}

func drawStep(t *rapid.T, lives int) step {
	s := step{Deaf: rapid.IntRange(0, 5).Draw(t, "deaf") == 5}
	if s.Pass.ToRenewal = rapid.Bool().Draw(t, "renewal"); s.Pass.ToRenewal {
		s.Pass.By = rapid.SampledFrom(afterRenewal).Draw(t, "after")
	} else {
		s.Pass.By = rapid.SampledFrom(whiles).Draw(t, "by")
	}
	for range lives {
		s.Acts = append(s.Acts, act{
			Early: rapid.SampledFrom(spending).Draw(t, "early"), Late: rapid.SampledFrom(spending).Draw(t, "late"),
			Do: rapid.SampledFrom(deeds).Draw(t, "do"), N: rapid.IntRange(0, 5).Draw(t, "n"),
		})
	}
	return s
}

// TestLives lives a dozen batches of lives, always the same. With KEYMETER_TEST_LONG or KEYMETER_LIVES it lives new ones, as
// many as are wanted; rapid prints the seed of a failure and shrinks it.
func TestLives(t *testing.T) {
	t.Parallel()
	worlds, checks := 1, 12
	known := os.Getenv("KEYMETER_TEST_LONG")+os.Getenv("KEYMETER_LIVES") == ""
	if os.Getenv("KEYMETER_TEST_LONG") != "" {
		worlds, checks = 20, 50
	}
	if n, err := strconv.Atoi(os.Getenv("KEYMETER_LIVES")); err == nil {
		worlds, checks = (n+99)/100, min(n, 100)
	}
	for i := range worlds { // what has been lived slows down what comes after it
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			l := newLives(t)
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("first failure: ", l.failure)
				}
			})
			ran := 0
			rapid.Check(t, func(rt *rapid.T) {
				// The number of checks is a flag of all tests; what comes after ours is only to find a smaller failure.
				if ran++; ran > checks && l.failure == "" {
					return
				}
				if known {
					l.live(try{rt, l}, batches().Example(ran))
					return
				}
				l.live(try{rt, l}, batches().Draw(rt, "batch"))
			})
			l.verify(t)
			t.Logf("%d lives, each twice; %+v", l.lived, l.did)
		})
	}
}

// live lives a batch and checks how it ends.
func (l *lifetimes) live(t tester, b batch) {
	l.begin(t, b)
	for _, s := range b.Steps {
		l.step(t, s)
	}
	l.settle(t)
	l.compare(t)
	l.check(t)
	l.end(t)
	l.compare(t)
	l.check(t)
}

// begin makes the accounts.
func (l *lifetimes) begin(t tester, b batch) {
	l.deliveries.begin(b.Seed)
	l.pairs = nil
	for range b.Lives {
		l.pairs = append(l.pairs, [2]*life{l.born(t), l.born(t)})
		l.lived++
	}
	for _, p := range l.pairs {
		l.deliveries.roughen(p[1].customerID)
	}
	l.deliver(t)
}

func (l *lifetimes) step(t tester, s step) {
	l.pass(s.Pass)
	for i, p := range l.pairs {
		l.twice(p, func(one *life) { l.spend(t, one, s.Acts[i].Early) })
	}
	if !s.Deaf {
		l.settle(t)
	}
	for i, p := range l.pairs {
		l.twice(p, func(one *life) { l.do(t, one, s.Acts[i]) })
	}
	if !s.Deaf {
		l.settle(t)
	}
	for i, p := range l.pairs {
		l.twice(p, func(one *life) { l.spend(t, one, s.Acts[i].Late) })
	}
}

func (l *lifetimes) twice(pair [2]*life, do func(one *life)) {
	do(pair[0])
	do(pair[1])
}

// pass moves the time, for everybody.
func (l *lifetimes) pass(p passing) {
	to := l.w.clock.Now().Add(p.By)
	if p.ToRenewal {
		to = l.nextRenewal().Add(p.By)
	}
	l.w.clock.Set(later(to, l.w.clock.Now().Add(time.Second)))
	l.w.sim.Advance()
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// nextRenewal is when the next of the subscriptions renews that are lived now, as far as Keymeter knows.
func (l *lifetimes) nextRenewal() time.Time {
	now := l.w.clock.Now()
	var next *time.Time
	_ = l.w.pool.QueryRow(context.Background(), `SELECT min(current_period_end) FROM billing_accounts
		WHERE account_id = ANY($1) AND current_period_end > $2`, l.accountIDs(), now).Scan(&next)
	return *cmp.Or(next, &now)
}

// end lets everybody leave, so that all that was used is billed, and Stripe collect it.
func (l *lifetimes) end(t tester) {
	for _, p := range l.pairs {
		l.twice(p, func(one *life) { l.leaveForGood(t, one) })
	}
	l.settle(t)
	for _, by := range []time.Duration{time.Minute, 2 * time.Hour} {
		l.pass(passing{By: by})
		l.settle(t)
	}
}
