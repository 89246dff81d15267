package credits

import (
	"slices"
	"strconv"
	"time"

	"github.com/keymeter/keymeter/internal/plans"
)

type modelGrant struct {
	period  int
	kind    Kind
	source  string
	amount  int64
	expires time.Time // zero is never
	ends    bool      // with its period, however that ends
	settled bool      // it has expired in this period, and what was unused then is lost
}

// grant is its place in the list of grants.
type modelBurn struct {
	grant, period int
	credits       int64
}

type modelLoss struct {
	grant  int
	amount int64
	cause  string
	by     string // of what was taken back
	from   string // the subscription that was left
	back   bool   // given back since
}

type modelOverage struct {
	period          int
	source          string
	start, end      time.Time
	credits, micros int64
}

func itoa(n int) string { return strconv.Itoa(n) }

// rest is what is left of a grant, before what the latest period uses of it.
func (a *modelAccount) rest(grant int) int64 {
	left := a.grants[grant].amount
	for _, b := range a.burns {
		if b.grant == grant {
			left -= b.credits
		}
	}
	for _, l := range a.losses {
		if l.grant == grant {
			left -= l.amount
		}
	}
	return left
}

// granted is all that the latest period can use.
func (a *modelAccount) granted() (sum int64) {
	for i := range a.grants {
		sum += a.rest(i)
	}
	return sum
}

// order is the grants as they are used up: what expires first, and what never does last; of those that expire together
// bridges, promotions, adjustments, monthly credits, top-ups; then the older first.
func (a *modelAccount) order() []int {
	places := make([]int, len(a.grants))
	for i := range places {
		places[i] = i
	}
	never := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	ends := func(i int) time.Time {
		if a.grants[i].expires.IsZero() {
			return never
		}
		return a.grants[i].expires
	}
	rank := map[Kind]int{BridgeGrant: 1, Promotional: 2, Adjustment: 3, MonthlyGrant: 4, TopUp: 5}
	slices.SortStableFunc(places, func(i, j int) int {
		if c := ends(i).Compare(ends(j)); c != 0 {
			return c
		}
		return rank[a.grants[i].kind] - rank[a.grants[j].kind]
	})
	return places
}

// shares is what of each grant so many credits take, and what is beyond all of them.
func (a *modelAccount) shares(credits int64) (of map[int]int64, beyond int64) {
	of = map[int]int64{}
	for _, i := range a.order() {
		of[i] = min(credits, a.rest(i))
		credits -= of[i]
	}
	return of, credits
}

// unused is what is left of each grant beside what the latest period has used or holds.
func (a *modelAccount) unused() map[int]int64 {
	p := a.latest()
	of, _ := a.shares(max(0, p.total()+a.held()-p.overage))
	for i := range of {
		of[i] = a.rest(i) - of[i]
	}
	return of
}

func (a *modelAccount) expired(grant int, at time.Time) bool {
	expires := a.grants[grant].expires
	return !expires.IsZero() && !expires.After(at)
}

func (a *modelAccount) lose(grant int, amount int64, cause, by string) {
	if amount > 0 || cause == "taken_back" {
		a.losses = append(a.losses, modelLoss{grant: grant, amount: amount, cause: cause, by: by})
	}
}

// lapse takes what is unused of grants that have expired. Within a period that is done once for each: what was used or held
// by then keeps its part of it until the period closes.
func (a *modelAccount) lapse(now time.Time) {
	unused := a.unused()
	for i := range a.grants {
		if a.expired(i, now) && !a.grants[i].settled {
			a.grants[i].settled = a.grants[i].expires.Before(a.latest().end)
			a.lose(i, unused[i], "expired", "")
		}
	}
}

// refresh makes the period say what can be used now, and until when.
func (a *modelAccount) refresh(now time.Time) {
	a.lapse(now)
	p := a.latest()
	p.valid = p.end
	for i, g := range a.grants {
		if g.expires.After(now) && g.expires.Before(p.valid) && a.rest(i) > 0 {
			p.valid = g.expires
		}
	}
	if p.limit != nil { // one under what there is counts as what there is
		limit := max(*p.limit, p.overage, p.total()+a.held()-a.granted())
		p.limit = &limit
	}
}

// close settles the latest period: what it used of each grant, what beyond them, and what expires with it. It returns
// what was billed as overage and reversed since.
func (a *modelAccount) close(nextStart, now time.Time, leaves bool) (back int64) {
	p, period := a.latest(), a.number()
	of, beyond := a.shares(max(0, p.total()-p.overage))
	for _, i := range a.order() {
		rest := a.rest(i) - of[i]
		if of[i] > 0 {
			a.burns = append(a.burns, modelBurn{grant: i, period: period, credits: of[i]})
		}
		g := &a.grants[i]
		g.settled = false // what it kept was this period's
		if a.expired(i, nextStart) || g.ends && g.period == period {
			g.settled = true
			a.lose(i, rest, "expired", "")
		} else if leaves && rest > 0 && (g.kind == MonthlyGrant || g.kind == BridgeGrant) {
			a.losses = append(a.losses, modelLoss{grant: i, amount: rest, cause: "left", from: p.source})
		}
	}
	a.bill(beyond, p.end)
	return p.overage - p.total()
}

// bill enters overage of the latest period, at the price that is in force.
func (a *modelAccount) bill(credits int64, until time.Time) {
	p := a.latest()
	if credits > 0 {
		a.overages = append(a.overages, modelOverage{
			period: a.number(), source: p.source, start: p.start, end: latest(until, p.start), credits: credits, micros: p.micros,
		})
	}
}

// give adds a grant to the latest period. What a source has given once it gives no more.
func (a *modelAccount) give(g modelGrant) bool {
	if g.amount <= 0 || a.gave(g.source) >= 0 {
		return false
	}
	g.period = a.number()
	a.grants = append(a.grants, g)
	return true
}

// gave is the place of the grant that a source gave, or -1.
func (a *modelAccount) gave(source string) int {
	return slices.IndexFunc(a.grants, func(g modelGrant) bool { return g.source == source && source != "change" })
}

// monthly names the monthly credits of the month that the latest period is in. A month of a subscription may have several
// periods.
func (a *modelAccount) monthly() string {
	p := a.latest()
	if p.source == OwnSource {
		return "monthly:" + itoa(a.number())
	}
	return "monthly:" + p.source + ":" + strconv.FormatInt(p.cycleStart().Unix(), 10)
}

// included is a grant of credits that the plan of the latest period includes.
func (a *modelAccount) included(plan plans.Plan, amount int64, trial bool, source string) modelGrant {
	p, carried := a.latest(), plan.CarryoverMonths
	if trial {
		carried = 0
	}
	return modelGrant{
		kind: MonthlyGrant, source: source, amount: amount, expires: monthLater(p.anchor, p.months+1+carried),
		ends: carried == 0,
	}
}

// adjust gives credits back in the latest period, for as long as its monthly credits last.
func (m *model) adjust(a *modelAccount, amount int64, source string, now time.Time) {
	g := a.included(m.plans[a.latest().tier], amount, false, source)
	g.kind, g.ends = Adjustment, false
	a.give(g)
}

// apply puts the latest period under a standing.
func (m *model) apply(a *modelAccount, s modelStanding, byHand bool, now time.Time) {
	a.lapse(now)
	a.terms(s, now)
	if s.monthly == Bridge {
		m.advance(a, s.plan, now)
	}
	if s.monthly >= Trial {
		a.giveMonthly(s, now)
	}
	a.changePlan(s, byHand, now)
	p := a.latest()
	p.tier = s.plan.Tier
	a.refresh(now)
}

// terms are the limit of overage and its price. What there is at another price, or where there may be none, is billed.
func (a *modelAccount) terms(s modelStanding, now time.Time) {
	p := a.latest()
	limit, off := a.limit, !s.overage || s.plan.Capped
	if off {
		limit = new(int64)
	}
	over := p.total() - p.overage - a.granted()
	if over > 0 && (off || p.micros != s.plan.OverageMicros) {
		a.bill(over, now)
		p.overage += over
	}
	p.limit, p.micros, p.off = limit, s.plan.OverageMicros, !s.overage
}

// advance gives the bridge until the renewal is paid.
func (m *model) advance(a *modelAccount, plan plans.Plan, now time.Time) {
	expires := a.latest().start.Add(m.bridge.For)
	if a.gave(a.monthly()) >= 0 || a.latest().included > 0 || !expires.After(now) {
		return
	}
	a.give(modelGrant{
		kind: BridgeGrant, source: "bridge:" + a.monthly(), amount: plan.MonthlyCredits * m.bridge.Percent / 100,
		expires: expires, ends: true,
	})
}

// giveMonthly gives the month's credits once, less what was used of the bridge, whose rest ends.
func (a *modelAccount) giveMonthly(s modelStanding, now time.Time) {
	p := a.latest()
	if p.included > 0 {
		return
	}
	a.comeBack(now)
	if a.gave(a.monthly()) < 0 {
		amount := s.plan.MonthlyCredits
		if bridge := a.gave("bridge:" + a.monthly()); bridge >= 0 {
			a.lose(bridge, a.unused()[bridge], "replaced", "")
			a.grants[bridge].settled = true // what was used of it is the period's
			amount -= a.grants[bridge].amount
			for _, l := range a.losses {
				if l.grant == bridge {
					amount += l.amount
				}
			}
		}
		a.give(a.included(s.plan, amount, s.monthly == Trial, a.monthly()))
		p.included = s.plan.MonthlyCredits
		return
	}
	for _, before := range a.periods { // of the same month
		if before.source == p.source && before.anchor.Equal(p.anchor) && before.months == p.months {
			p.included = max(p.included, before.included)
		}
	}
}

// comeBack gives back what was left when the account left the subscription, but for what has expired since.
func (a *modelAccount) comeBack(now time.Time) {
	p := a.latest()
	for i := range a.losses {
		l := &a.losses[i]
		if l.from != p.source || l.back || a.expired(l.grant, now) {
			continue
		}
		l.back = true
		expires := a.grants[l.grant].expires
		a.grants = append(a.grants, modelGrant{
			period: a.number(), kind: MonthlyGrant, source: "returned", amount: l.amount, expires: expires,
			ends: !expires.After(monthLater(p.anchor, p.months+1)),
		})
	}
}

// changePlan gives or takes the difference to the plan before.
func (a *modelAccount) changePlan(s modelStanding, byHand bool, now time.Time) {
	p := a.latest()
	more := s.plan.MonthlyCredits - p.included
	switch {
	case p.included == 0:
	case more < 0 && byHand:
		unused := a.unused()
		order := a.order()
		slices.Reverse(order)
		left := -more
		for _, i := range order {
			if g := a.grants[i]; g.kind == MonthlyGrant && g.period == a.number() {
				take := min(left, unused[i])
				left -= take
				a.lose(i, take, "plan_changed", "")
			}
		}
		p.included = s.plan.MonthlyCredits
	case more > 0 && s.monthly >= Trial:
		source := "change"
		if !byHand {
			source = "upgrade:" + a.monthly() + ":" + string(s.plan.Tier)
			whole, left := p.end.Sub(p.cycleStart()).Microseconds(), p.end.Sub(s.seenAt(p, now)).Microseconds()
			more = (more*max(0, min(left, whole)) + whole - 1) / whole
		}
		a.give(a.included(s.plan, more, s.monthly == Trial, source))
		p.included = s.plan.MonthlyCredits
	}
}

// takeBack takes the unused of what a source gave, once for each cause.
func (m *model) takeBack(a *modelAccount, now time.Time, source, by string, amount int64) int64 {
	m.open(a, now)
	grant := a.gave(source)
	if grant < 0 {
		return 0
	}
	for _, l := range a.losses {
		if l.grant == grant && l.by == by {
			return l.amount
		}
	}
	taken := min(amount, a.unused()[grant])
	a.lose(grant, taken, "taken_back", by)
	a.refresh(now)
	return taken
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
