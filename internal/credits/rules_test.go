package credits

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

// april is where the account of a rule begins, and its own periods: a month of 30 days.
var april = in2026(4, 1)

func in2026(month time.Month, n int) time.Time {
	return time.Date(2026, month, n, 0, 0, 0, 0, time.UTC)
}

// rule is an account on which a rule is tried.
type rule struct {
	*bench
	t  *testing.T
	id string
}

func newRule(t *testing.T, pool *pgxpool.Pool) *rule {
	t.Helper()
	b := newBench(t, pool, defaultCatalogue(t), april)
	return &rule{bench: b, t: t, id: b.newAccount(t)}
}

// reads applies what is read of a subscription that began in April, in the month that the clock says.
func (r *rule) reads(tier plans.Tier, monthly Monthly) {
	r.t.Helper()
	now := r.clock.Now()
	r.readsOf(tier, monthly, time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC))
}

func (r *rule) readsOf(tier plans.Tier, monthly Monthly, start time.Time) {
	r.t.Helper()
	require.NoError(r.t, r.apply(r.t.Context(), r.id, Standing{
		Plan: r.catalogue.Plan(tier), Cycle: &Cycle{Source: "sub_1", Anchor: april, Start: start}, Monthly: monthly,
		Overage: monthly != Frozen,
	}))
}

// paid is a renewal that is paid for at once.
func (r *rule) paid(tier plans.Tier, at time.Time) {
	r.t.Helper()
	r.clock.Set(at)
	r.reads(tier, Full)
}

func (r *rule) byHand(tier plans.Tier) {
	r.t.Helper()
	require.NoError(r.t, r.changePlan(r.t.Context(), r.id, tier, nil))
}

func (r *rule) uses(id string, credits int64) {
	r.t.Helper()
	r.spend(r.t, r.id, id, credits)
}

func (r *rule) refuses(credits int64) {
	r.t.Helper()
	outcomes, err := r.record(r.t.Context(), event("refused", r.id, credits))
	require.NoError(r.t, err)
	require.NotNil(r.t, outcomes[0].Refusal, "%d credits were spent", credits)
	require.Equal(r.t, "credits_exhausted", outcomes[0].Refusal.Code)
}

func (r *rule) gives(kind Kind, amount int64, source string, expires *time.Time) {
	r.t.Helper()
	require.NoError(r.t, postgres.InTx(r.t.Context(), r.pool, func(tx postgres.Tx) error {
		given, err := r.credits.GrantTx(r.t.Context(), tx,
			Grant{AccountID: r.id, Kind: kind, Amount: amount, Source: source, ExpiresAt: expires})
		require.True(r.t, given)
		return err
	}))
}

func (r *rule) takesBack(source, by string, amount int64) (taken int64) {
	r.t.Helper()
	require.NoError(r.t, postgres.InTx(r.t.Context(), r.pool, func(tx postgres.Tx) (err error) {
		taken, err = r.credits.TakeBackTx(r.t.Context(), tx, r.id, source, by, amount)
		return err
	}))
	return taken
}

func (r *rule) givesBack(source, by string, keep int64) (given int64) {
	r.t.Helper()
	require.NoError(r.t, postgres.InTx(r.t.Context(), r.pool, func(tx postgres.Tx) (err error) {
		given, err = r.credits.GiveBackTx(r.t.Context(), tx, r.id, source, by, keep, "Won")
		return err
	}))
	return given
}

func (r *rule) reverses(id string) {
	r.t.Helper()
	_, err := r.credits.Reverse(r.t.Context(), r.id, id)
	require.NoError(r.t, err)
}

// has wants so much granted and remaining in the current period.
func (r *rule) has(granted, remaining int64) {
	r.t.Helper()
	b := r.current(r.t, r.id)
	require.Equal(r.t, []int64{granted, remaining}, []int64{b.Granted, b.Remaining()}, "granted, remaining")
	r.checkIdentities(r.t, r.id)
}

// owes wants these credits and prices as overage in the ledger.
func (r *rule) owes(want ...[2]int64) {
	r.t.Helper()
	rows, err := r.pool.Query(r.t.Context(),
		"SELECT credits, unit_micros FROM overages WHERE account_id = $1 ORDER BY created_at, id", r.id)
	require.NoError(r.t, err)
	got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o [2]int64, err error) {
		return o, row.Scan(&o[0], &o[1])
	})
	require.NoError(r.t, err)
	require.Equal(r.t, append([][2]int64{}, want...), got)
}

// rules runs each as a test of its own, on accounts of one database.
func rules(t *testing.T, all map[string]func(r *rule)) {
	t.Helper()
	pool := testkit.DB(t)
	for name, try := range all {
		t.Run(name, func(t *testing.T) { try(newRule(t, pool)) })
	}
}

func TestCarryover(t *testing.T) {
	t.Parallel()
	rules(t, map[string]func(r *rule){
		"what pro leaves is used until the end of the next month": func(r *rule) {
			r.paid(plans.Pro, april)
			r.paid(plans.Pro, in2026(5, 1))
			r.clock.Set(in2026(6, 1).Add(-time.Microsecond))
			r.has(400_000, 400_000)
			r.uses("e", 400_000)
			r.has(400_000, 0)
		},
		"and gone when that has ended": func(r *rule) {
			r.paid(plans.Pro, april)
			r.paid(plans.Pro, in2026(5, 1))
			r.uses("e", 150_000) // of April's, which go first
			r.clock.Set(in2026(6, 1))
			r.has(200_000+20_000, 220_000) // of May, and the bridge
		},
		"and a microsecond later": func(r *rule) {
			r.paid(plans.Pro, april)
			r.clock.Set(in2026(6, 1).Add(time.Microsecond))
			r.has(20_000, 20_000)
		},
		"scale carries over for two months": func(r *rule) {
			r.paid(plans.Scale, april)
			r.paid(plans.Scale, in2026(5, 1))
			r.paid(plans.Scale, in2026(6, 1))
			r.has(3_000_000, 3_000_000)
			r.uses("e", 1_400_000) // all of April's, and of May's
			r.paid(plans.Scale, in2026(7, 1))
			r.has(600_000+1_000_000+1_000_000, 2_600_000)
		},
		"free carries nothing over": func(r *rule) {
			r.has(2500, 2500)
			r.clock.Set(in2026(5, 1).Add(-time.Microsecond))
			r.has(2500, 2500)
			r.clock.Set(in2026(5, 1))
			r.has(2500, 2500)
		},
		"free ends with its period, however that ends": func(r *rule) {
			r.has(2500, 2500)
			r.paid(plans.Pro, april.Add(time.Hour))
			r.has(200_000, 200_000)
		},
		"a trial carries nothing over": func(r *rule) {
			r.reads(plans.Pro, Trial)
			r.has(200_000, 200_000)
			r.paid(plans.Pro, in2026(5, 1))
			r.has(200_000, 200_000)
		},
		"who leaves the subscription leaves its credits, and finds them when it comes back": func(r *rule) {
			r.paid(plans.Pro, april)
			r.uses("e", 50_000)
			r.clock.Set(in2026(4, 20))
			r.byHand(plans.Free)
			r.has(2500, 2500)
			r.clock.Set(in2026(4, 25))
			r.paid(plans.Pro, april)
			r.has(150_000, 150_000)
		},
		"also when it comes back in the next month": func(r *rule) {
			r.paid(plans.Pro, april)
			r.uses("e", 50_000)
			r.clock.Set(in2026(4, 20))
			r.byHand(plans.Free)
			r.clock.Set(in2026(5, 10))
			r.paid(plans.Pro, in2026(5, 1))
			r.has(350_000, 350_000)
			r.clock.Set(in2026(6, 1))
			r.paid(plans.Pro, in2026(6, 1))
			r.has(400_000, 400_000)
			r.clock.Set(in2026(6, 2))
			r.byHand(plans.Free)
			r.clock.Set(in2026(8, 1))
			r.paid(plans.Pro, in2026(8, 1))
			r.has(200_000, 200_000)
		},
		"a month of the 31st ends with February": func(r *rule) {
			r.clock.Set(in2026(12, 31))
			cycle := &Cycle{Source: "sub_2", Anchor: in2026(12, 31), Start: in2026(12, 31)}
			require.NoError(r.t, r.changePlan(r.t.Context(), r.id, plans.Pro, cycle))
			february := time.Date(2027, 2, 28, 0, 0, 0, 0, time.UTC)
			r.clock.Set(february.Add(-time.Microsecond))
			r.has(200_000, 200_000) // the bridge of January is over
			r.clock.Set(february)
			r.has(20_000, 20_000)
		},
		"fourteen months that nobody opened leave the last and its carryover": func(r *rule) {
			r.byHand(plans.Pro)
			r.clock.Set(time.Date(2027, 6, 1, 1, 0, 0, 0, time.UTC))
			r.has(400_000, 400_000)
			require.EqualValues(r.t, 2, r.current(r.t, r.id).Period, "April 2026, May and June 2027")
		},
		"of a subscription they leave a bridge": func(r *rule) {
			r.paid(plans.Scale, april)
			r.clock.Set(time.Date(2027, 6, 1, 1, 0, 0, 0, time.UTC))
			r.has(100_000, 100_000)
		},
	})
}

func TestBridge(t *testing.T) {
	t.Parallel()
	// The account comes to May with nothing that is carried over.
	inMay := func(r *rule) {
		r.paid(plans.Pro, april)
		r.uses("april", 200_000)
		r.clock.Set(in2026(5, 1))
		r.has(20_000, 20_000)
	}
	rules(t, map[string]func(r *rule){
		"a tenth for 72 hours": func(r *rule) {
			inMay(r)
			require.Equal(r.t, in2026(5, 4), r.current(r.t, r.id).ValidUntil.UTC())
			r.clock.Set(in2026(5, 4).Add(-time.Microsecond))
			r.has(20_000, 20_000)
			r.clock.Set(in2026(5, 4))
			r.has(0, 0)
		},
		"the payment replaces it, less what was used": func(r *rule) {
			inMay(r)
			r.uses("e", 5000)
			r.paid(plans.Pro, in2026(5, 2))
			r.has(5000+195_000, 195_000)
			r.clock.Set(in2026(5, 4))
			r.has(5000+195_000, 195_000)
			r.paid(plans.Pro, in2026(5, 5))
			r.has(5000+195_000, 195_000)
		},
		"what was used of it can be given back afterwards": func(r *rule) {
			inMay(r)
			r.uses("e", 5000)
			r.paid(plans.Pro, in2026(5, 2))
			r.reverses("e")
			r.has(200_000, 200_000)
			r.clock.Set(in2026(5, 4)) // it would have expired
			r.has(200_000, 200_000)
		},
		"also when it has expired": func(r *rule) {
			inMay(r)
			r.uses("e", 5000)
			r.paid(plans.Pro, in2026(5, 9))
			r.has(5000+195_000, 195_000)
		},
		"also when an earlier period of the month used it": func(r *rule) {
			inMay(r)
			r.uses("e", 5000)
			r.byHand(plans.Free)
			r.has(2500, 2500)
			r.paid(plans.Pro, in2026(5, 2))
			r.has(195_000, 195_000)
		},
		"it is given once in a month": func(r *rule) {
			inMay(r)
			r.uses("e", 5000)
			r.byHand(plans.Free)
			r.clock.Advance(time.Hour)
			r.reads(plans.Pro, Bridge)
			r.has(0, 0)
		},
		"it ends with its period": func(r *rule) {
			cycle := &Cycle{Source: "sub_2", Anchor: in2026(3, 2), Start: in2026(3, 2)}
			r.clock.Set(in2026(4, 1).Add(20 * time.Hour)) // the period ends in four hours
			require.NoError(r.t, r.apply(r.t.Context(), r.id,
				Standing{Plan: r.catalogue.Plan(plans.Pro), Cycle: cycle, Monthly: Bridge}))
			r.has(20_000, 20_000)
			r.clock.Set(in2026(4, 2))
			r.has(20_000, 20_000) // of the period that begins now
		},
		"overdue payment gives nothing": func(r *rule) {
			r.paid(plans.Pro, april)
			r.uses("april", 200_000)
			r.clock.Set(in2026(5, 1))
			r.reads(plans.Pro, Frozen)
			r.has(0, 0)
			r.refuses(1)
		},
		"a reading from before the renewal pays for nothing": func(r *rule) {
			inMay(r)
			r.readsOf(plans.Pro, Full, april)
			r.has(20_000, 20_000)
			r.readsOf(plans.Scale, Full, april)
			r.has(20_000, 20_000)
			r.paid(plans.Pro, in2026(5, 2))
			r.has(200_000, 200_000)
		},
		"a bridge beyond what is paid for leaves nothing of it, and a better plan gives its difference": func(r *rule) {
			r.paid(plans.Scale, april)
			r.uses("april", 1_000_000)
			r.clock.Set(in2026(5, 1))
			r.uses("e", 60_000)
			r.reads(plans.Starter, Full)
			r.has(60_000, 0)
			r.clock.Set(in2026(5, 16).Add(12 * time.Hour)) // half of May
			r.reads(plans.Pro, Full)
			r.has(60_000+75_000, 75_000)
		},
		"the second month of a long trial is of the trial": func(r *rule) {
			trial := &Cycle{Source: "sub_2", Anchor: in2026(5, 16), Start: april}
			s := Standing{Plan: r.catalogue.Plan(plans.Pro), Cycle: trial, Monthly: Trial}
			require.NoError(r.t, r.apply(r.t.Context(), r.id, s))
			r.clock.Set(in2026(5, 2))
			r.has(20_000, 20_000)
			require.NoError(r.t, r.apply(r.t.Context(), r.id, s))
			r.has(200_000, 200_000)
		},
	})
}

func TestChangeOfPlan(t *testing.T) {
	t.Parallel()
	// On the 12th at 8, 448 of April's 720 hours are left.
	late := in2026(4, 12).Add(8 * time.Hour)
	rules(t, map[string]func(r *rule){
		"a better plan gives the difference by the time that is left": func(r *rule) {
			r.paid(plans.Starter, april)
			r.paid(plans.Pro, late)
			r.has(50_000+93_334, 143_334)
		},
		"once for each plan": func(r *rule) {
			r.paid(plans.Starter, april)
			r.paid(plans.Pro, late)
			r.paid(plans.Starter, late.Add(time.Hour))
			r.has(143_334, 143_334)
			r.paid(plans.Pro, late.Add(2*time.Hour))
			r.has(143_334, 143_334)
			r.clock.Set(in2026(4, 16))
			r.reads(plans.Scale, Full)
			r.has(143_334+400_000, 543_334)
		},
		"also if it is seen late": func(r *rule) {
			r.paid(plans.Starter, april)
			r.clock.Set(in2026(4, 29))
			require.NoError(r.t, r.apply(r.t.Context(), r.id, Standing{
				Plan: r.catalogue.Plan(plans.Pro), Cycle: &Cycle{Source: "sub_1", Anchor: april, Start: april}, Monthly: Full,
				Overage: true, Since: late,
			}))
			r.has(50_000+93_334, 143_334)
		},
		"also to who comes back to the month, once": func(r *rule) {
			r.paid(plans.Starter, april)
			r.uses("e", 10_000)
			r.clock.Set(in2026(4, 5))
			r.byHand(plans.Free)
			r.clock.Set(late)
			r.readsOf(plans.Pro, Full, april)
			r.has(40_000+93_334, 133_334)
			r.byHand(plans.Free)
			r.readsOf(plans.Pro, Full, april)
			r.has(133_334, 133_334)
			r.byHand(plans.Free)
			r.readsOf(plans.Starter, Full, april)
			r.has(133_334, 133_334)
		},
		"by hand all of it": func(r *rule) {
			r.byHand(plans.Starter)
			r.has(50_000, 50_000)
			r.clock.Set(late)
			r.byHand(plans.Pro)
			r.has(200_000, 200_000)
			r.byHand(plans.Pro)
			r.has(200_000, 200_000)
		},
		"a lesser plan by hand takes the difference from what is unused": func(r *rule) {
			r.byHand(plans.Pro)
			r.uses("e", 30_000)
			r.byHand(plans.Starter)
			r.has(50_000, 20_000)
		},
		"and no more than is unused": func(r *rule) {
			r.byHand(plans.Pro)
			r.uses("e", 120_000)
			r.byHand(plans.Starter)
			r.has(120_000, 0)
			r.uses("f", 1) // overage
		},
		"nor of what else there is": func(r *rule) {
			r.byHand(plans.Pro)
			r.gives(TopUp, 10_000, "t", nil)
			r.byHand(plans.Free)
			r.has(12_500, 12_500)
		},
		"a lesser plan of a subscription takes nothing": func(r *rule) {
			r.paid(plans.Pro, april)
			r.paid(plans.Starter, late)
			r.has(200_000, 200_000)
		},
		"by hand while overdue takes once and gives once": func(r *rule) {
			r.byHand(plans.Pro)
			frozen := Standing{Plan: r.catalogue.Plan(plans.Starter), Overage: true}
			for range 2 {
				require.NoError(r.t, r.apply(r.t.Context(), r.id, frozen))
				r.has(50_000, 50_000)
			}
			frozen.Plan = r.catalogue.Plan(plans.Scale)
			require.NoError(r.t, r.apply(r.t.Context(), r.id, frozen))
			r.has(50_000, 50_000)
			r.byHand(plans.Scale)
			r.has(1_000_000, 1_000_000)
		},
	})
}

func TestOverage(t *testing.T) {
	t.Parallel()
	late := in2026(4, 12).Add(8 * time.Hour)
	over := func(r *rule) {
		r.paid(plans.Starter, april)
		r.uses("a", 50_000)
		r.uses("b", 30_000)
		r.has(50_000, 0)
	}
	rules(t, map[string]func(r *rule){
		"is billed when the period closes": func(r *rule) {
			over(r)
			r.owes()
			r.paid(plans.Starter, in2026(5, 1))
			r.has(50_000, 50_000)
			r.owes([2]int64{30_000, 1000})
		},
		"within a limit of the account's own is not billed by being read, and is covered by what comes": func(r *rule) {
			over(r)
			none := int64(0)
			require.NoError(r.t, postgres.InTx(r.t.Context(), r.pool, func(tx postgres.Tx) error {
				return r.credits.SetOverageLimitTx(r.t.Context(), tx, r.id, &none)
			}))
			r.refuses(1)
			r.reads(plans.Starter, Full)
			r.owes()
			r.gives(TopUp, 40_000, "t", nil)
			r.has(90_000, 10_000)
		},
		"before an upgrade is billed at the old price, and eats none of the new credits": func(r *rule) {
			over(r)
			r.paid(plans.Pro, late)
			r.owes([2]int64{30_000, 1000})
			r.has(50_000+93_334, 93_334)
			r.uses("c", 93_344)
			r.paid(plans.Pro, in2026(5, 1))
			r.has(200_000, 200_000)
			r.owes([2]int64{30_000, 1000}, [2]int64{10, 800})
		},
		"is covered by a grant that comes before": func(r *rule) {
			over(r)
			r.gives(TopUp, 40_000, "t", nil)
			r.has(90_000, 10_000)
			r.paid(plans.Starter, in2026(5, 1))
			r.has(60_000, 60_000)
			r.owes()
		},
		"that is turned off is billed, and a hard cap from then on": func(r *rule) {
			over(r)
			r.reads(plans.Starter, Frozen)
			r.owes([2]int64{30_000, 1000})
			r.refuses(1)
			_, err := r.pool.Exec(r.t.Context(), "UPDATE balances SET tts = tts + 1 WHERE account_id = $1 AND NOT closed", r.id)
			require.ErrorContains(r.t, err, "hard_cap")
			r.gives(TopUp, 100, "t", nil)
			r.has(50_100, 100)
			r.uses("c", 100)
			r.refuses(1)
		},
		"under a limit that is lower than what there is stays as it is": func(r *rule) {
			over(r)
			_, err := r.pool.Exec(r.t.Context(), "INSERT INTO credit_settings (account_id, overage_limit) VALUES ($1, 1000)", r.id)
			require.NoError(r.t, err)
			r.reads(plans.Starter, Full)
			require.EqualValues(r.t, 30_000, *r.current(r.t, r.id).OverageLimit)
			r.refuses(1)
			_, err = r.pool.Exec(r.t.Context(),
				"UPDATE balances SET overage_limit = 1000 WHERE account_id = $1 AND NOT closed", r.id)
			require.ErrorContains(r.t, err, "hard_cap")
			r.paid(plans.Starter, in2026(5, 1))
			require.EqualValues(r.t, 1000, *r.current(r.t, r.id).OverageLimit)
			r.uses("c", 51_000)
			r.refuses(1)
		},
		"billed and reversed comes back when the period closes, and lasts": func(r *rule) {
			r.byHand(plans.Pro)
			r.uses("a", 250_000)
			r.byHand(plans.Free)
			r.owes([2]int64{50_000, 800})
			r.reverses("a")
			r.has(200_000, 250_000)
			r.clock.Set(in2026(5, 1))
			r.has(197_500+2500+50_000, 250_000)
			r.clock.Set(in2026(6, 1))
			r.has(2500, 2500)
		},
	})
}

func TestGrants(t *testing.T) {
	t.Parallel()
	soon := april.Add(time.Hour)
	rules(t, map[string]func(r *rule){
		"what expires first is used first": func(r *rule) {
			r.paid(plans.Starter, april)
			r.uses("e", 10_000)
			end := in2026(5, 1)
			r.gives(Promotional, 5000, "p", &end) // burned by what was used before
			r.paid(plans.Starter, end)
			r.has(45_000+50_000, 95_000)
		},
		"a top-up is used last and never expires": func(r *rule) {
			r.gives(TopUp, 1000, "t", nil)
			r.uses("e", 3000)
			r.clock.Set(time.Date(2029, 1, 15, 0, 0, 0, 0, time.UTC))
			r.has(500+2500, 3000)
		},
		"an expired credit is not spent": func(r *rule) {
			r.gives(Promotional, 1000, "p", &soon)
			r.clock.Set(soon)
			r.refuses(2501)
			r.uses("e", 2500)
			r.has(2500, 0)
		},
		"until then it is": func(r *rule) {
			r.gives(Promotional, 1000, "p", &soon)
			r.clock.Set(soon.Add(-time.Microsecond))
			r.uses("e", 3500)
			r.clock.Set(soon.Add(time.Microsecond))
			r.has(3500, 0)
		},
		"what was used keeps its part of an expired grant, also when it is reversed": func(r *rule) {
			r.gives(Promotional, 1000, "p", &soon)
			r.uses("e", 600)
			r.clock.Set(soon)
			r.has(600+2500, 2500)
			r.reverses("e")
			r.has(3100, 3100)
			r.byHand(plans.Free) // the same again
			r.has(3100, 3100)
			r.clock.Set(in2026(5, 1))
			r.has(2500, 2500)
		},
		"so does what is held": func(r *rule) {
			r.gives(Promotional, 1000, "p", &soon)
			held, err := r.credits.Reserve(r.t.Context(),
				Hold{EventID: "h", AccountID: r.id, Category: plans.LLM, Credits: 1000, TTL: 2 * time.Hour})
			require.NoError(r.t, err)
			r.clock.Set(soon)
			r.has(3500, 2500)
			_, err = r.credits.Settle(r.t.Context(), held.ID, costs(400))
			require.NoError(r.t, err)
			r.has(3500, 3100)
		},
		"but not what had been held before": func(r *rule) {
			r.gives(Promotional, 1000, "p", &soon)
			_, err := r.credits.Reserve(r.t.Context(),
				Hold{EventID: "h", AccountID: r.id, Category: plans.LLM, Credits: 1000, TTL: time.Minute})
			require.NoError(r.t, err)
			r.clock.Set(soon.Add(time.Hour)) // and nobody has freed it since
			r.refuses(2501)
			r.has(2500, 2500)
		},
		"a refund takes back only the unused rest, once": func(r *rule) {
			r.gives(TopUp, 10_000, "t", nil)
			r.uses("e", 6000)
			require.EqualValues(r.t, 6500, r.takesBack("t", "refund", 10_000))
			r.has(6000, 0)
			require.EqualValues(r.t, 6500, r.takesBack("t", "refund", 10_000))
			require.EqualValues(r.t, 0, r.takesBack("t", "another", 10_000))
			r.refuses(1)
			r.reverses("e")
			require.EqualValues(r.t, 6500, r.takesBack("t", "refund", 10_000))
			r.has(6000, 6000)
		},
		"what was taken back can be given back, and taken again, each once": func(r *rule) {
			at := in2026(4, 20)
			r.gives(Promotional, 10_000, "p", &at)
			r.uses("e", 4000)
			require.EqualValues(r.t, 6000, r.takesBack("p", "dispute", 10_000))
			require.EqualValues(r.t, 5000, r.givesBack("p", "won", 1000))
			require.EqualValues(r.t, 0, r.givesBack("p", "won", 0))
			r.has(4000+5000+2500, 5000+2500)
			for range 2 {
				require.EqualValues(r.t, 300, r.takesBack("p", "refund", 300))
			}
			r.has(4000+4700+2500, 4700+2500)
			require.EqualValues(r.t, 0, r.givesBack("p", "failed", 1300))
			require.EqualValues(r.t, 1300, r.givesBack("p", "failed", 0))
			r.has(4000+6000+2500, 6000+2500)
			require.EqualValues(r.t, 6000, r.takesBack("p", "another", 10_000))
			r.has(4000+2500, 2500)
			require.EqualValues(r.t, 6000, r.givesBack("p", "won again", 0))
			r.clock.Set(at)
			r.has(4000+2500, 2500)
			require.EqualValues(r.t, 0, r.givesBack("nothing", "won", 0))
		},
		"the reversal of a closed period's event lasts as this one's credits": func(r *rule) {
			r.paid(plans.Pro, april)
			r.uses("e", 200_000)
			r.paid(plans.Pro, in2026(5, 1))
			r.reverses("e")
			r.has(400_000, 400_000)
			r.clock.Set(in2026(7, 1).Add(-time.Microsecond))
			r.has(400_000, 400_000)
			r.clock.Set(in2026(7, 1))
			r.has(20_000, 20_000)
		},
	})
}

// Many that come to an account of which a grant has expired and months have passed settle that once.
func TestConcurrentExpiry(t *testing.T) {
	t.Parallel()
	r := newRule(t, testkit.DB(t))
	r.paid(plans.Scale, april)
	at := in2026(4, 20)
	r.gives(Promotional, 1000, "p", &at)
	r.uses("e", 300)
	for _, at := range []time.Time{at, time.Date(2027, 6, 3, 0, 0, 0, 0, time.UTC)} {
		r.clock.Set(at)
		inParallel(t, 8, func(ctx context.Context, n int) error {
			switch n % 4 {
			case 0:
				_, err := r.credits.Current(ctx, r.id)
				return err
			case 1:
				_, err := r.record(ctx, event(at.String(), r.id, 10))
				return err
			case 2:
				return postgres.InTx(ctx, r.pool, func(tx postgres.Tx) error {
					_, err := r.credits.GrantTx(ctx, tx, Grant{AccountID: r.id, Kind: TopUp, Amount: 5, Source: at.String()})
					return err
				})
			}
			return postgres.InTx(ctx, r.pool, func(tx postgres.Tx) error {
				_, err := r.credits.TakeBackTx(ctx, tx, r.id, "p", "refund", 1)
				return err
			})
		})
	}
	r.has(100_000+10, 100_000)
	var losses []int64
	require.NoError(t, r.pool.QueryRow(t.Context(),
		"SELECT array_agg(amount ORDER BY amount) FROM credit_losses WHERE account_id = $1", r.id).Scan(&losses))
	require.Equal(t, []int64{0, 700, 2500, 999_990}, losses)
}
