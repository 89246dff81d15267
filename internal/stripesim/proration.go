package stripesim

import (
	"math/big"
	"strconv"
	"time"
)

const longDate = "02 Jan 2006"

// prorations are the two lines of a plan change: what is given back for the rest
// of the period, and what the rest costs now. Stripe counts in seconds and rounds
// each line for itself.
func prorations(from, to *subscription, at time.Time) []line {
	left, whole := from.PeriodEnd.Unix()-at.Unix(), from.PeriodEnd.Unix()-from.PeriodStart.Unix()
	return []line{
		prorated(from, "Unused time on ", at, big.NewRat(-left, whole)),
		prorated(to, "Remaining time on ", at, big.NewRat(left, whole)),
	}
}

func prorated(sub *subscription, what string, at time.Time, share *big.Rat) line {
	exact := new(big.Rat).Mul(share, new(big.Rat).SetInt64(sub.amount()))
	name := sub.Price.Product.Name
	if sub.Quantity > 1 {
		name = strconv.FormatInt(sub.Quantity, 10) + " × " + name
	}
	amount := roundRat(exact)
	return line{
		Amount: amount, Quantity: sub.Quantity, UnitAmount: perUnit(amount, sub.Quantity),
		Description: what + name + " after " + at.Format(longDate), Metadata: sub.Metadata, Start: at, End: sub.PeriodEnd,
		Price: sub.Price, Proration: true, Subscription: sub.ID, SubscriptionItem: sub.ItemID,
	}
}

// perUnit is the decimal amount of one of several.
func perUnit(amount, quantity int64) string {
	if quantity == 0 {
		return strconv.FormatInt(amount, 10)
	}
	return decimal(big.NewRat(amount, quantity))
}

// addPending makes invoice items of lines, which wait for the subscription's next
// invoice.
func (s *Sim) addPending(by cause, sub *subscription, lines []line) {
	for _, l := range lines {
		s.addItem(by, &invoiceItem{Customer: sub.Customer, Line: l})
	}
}

// creditRest gives back what is left of the period.
func (s *Sim) creditRest(by cause, sub *subscription, at time.Time) {
	lines := prorations(sub, sub, at)
	s.addPending(by, sub, lines[:1])
}
