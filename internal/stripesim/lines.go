package stripesim

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"time"
)

// line is something charged for, on an invoice or waiting for one.
type line struct {
	ID               string
	Item             string // the invoice item it comes from; none for a subscription's period
	Amount           int64
	Quantity         int64
	UnitAmount       string // decimal
	Description      string
	Metadata         map[string]string
	Start            time.Time
	End              time.Time
	Price            *price
	Proration        bool
	Subscription     string
	SubscriptionItem string
}

// periodLine is a subscription's charge for its present period.
func (s *Sim) periodLine(sub *subscription) line {
	l := line{
		ID: s.ids.next("il_1", 23), Amount: sub.amount(), Quantity: sub.Quantity, UnitAmount: sub.Price.decimal(),
		Description: fmt.Sprintf("%d × %s (at %s / %s)", sub.Quantity, sub.Price.Product.Name,
			dollars(sub.Price.UnitAmount), sub.Price.interval()),
		Metadata: sub.Metadata, Start: sub.PeriodStart, End: sub.PeriodEnd, Price: sub.Price,
		Subscription: sub.ID, SubscriptionItem: sub.ItemID,
	}
	if sub.Status == statusTrialing {
		l.Amount, l.UnitAmount = 0, "0"
		l.Description = "Trial period for " + sub.Price.Product.Name
	}
	return l
}

// sweep puts what is pending for any of the subscriptions on a new invoice; "" is
// what names none. Stripe sorts these newest first, ahead of the rest.
func (s *Sim) sweep(inv *invoice, subscriptions ...string) {
	for _, it := range slices.Backward(s.items.items) {
		if it.Invoice == "" && it.Customer == inv.Customer.ID && slices.Contains(subscriptions, it.Line.Subscription) {
			it.Invoice = inv.ID
			inv.Lines = append(inv.Lines, it.Line)
		}
	}
}

// roundedAmount is quantity times unit, rounded half away from zero to a cent.
func roundedAmount(unit *big.Rat, quantity int64) int64 {
	return roundRat(new(big.Rat).Mul(unit, new(big.Rat).SetInt64(quantity)))
}

func roundRat(r *big.Rat) int64 {
	n, err := strconv.ParseInt(r.FloatString(0), 10, 64)
	if err != nil {
		panic("stripesim: amount out of range: " + r.String()) // params are bounded
	}
	return n
}

func renderLine(inv *invoice, l line) object {
	kind := "subscription"
	if l.Item != "" {
		kind = "invoiceitem"
	}
	out := object{
		"id": l.ID, "object": "line_item", "amount": l.Amount, "amount_excluding_tax": l.Amount, "currency": currency,
		"description": orNull(l.Description), "discount_amounts": []any{}, "discountable": !l.Proration,
		"discounts": []any{}, "invoice": inv.ID, "livemode": false, "metadata": renderMetadata(l.Metadata),
		"period": object{"start": l.Start.Unix(), "end": l.End.Unix()},
		"price":  renderPrice(l.Price), "proration": l.Proration,
		"proration_details": object{"credited_items": nil}, "quantity": l.Quantity,
		"subscription": orNull(l.Subscription), "subtotal": l.Amount, "tax_amounts": []any{}, "tax_rates": []any{},
		"type": kind, "unit_amount_excluding_tax": l.UnitAmount,
	}
	if l.SubscriptionItem != "" {
		out["subscription_item"] = l.SubscriptionItem
	}
	if l.Item != "" {
		out["invoice_item"] = l.Item
	}
	return out
}
