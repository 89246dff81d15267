package stripesim

import (
	"errors"
	"strings"
	"time"
)

type refund struct {
	ID       string
	Created  time.Time
	Charge   string
	Intent   string
	Amount   int64
	Reason   string
	Metadata map[string]string
}

func (rf *refund) key() string { return rf.ID }

func (s *Sim) createRefund(c *call) (object, *apiError) {
	ch := s.chargeParam(c)
	amount := c.integer("amount", 0, 1, largest)
	rf := &refund{
		Reason:   c.oneOf("reason", "duplicate", "fraudulent", "requested_by_customer"),
		Metadata: c.merge("metadata", nil),
	}
	if c.err != nil {
		return nil, c.err
	}
	if err := s.refund(c.cause, ch, rf, amount); err != nil {
		return nil, err
	}
	return renderRefund(rf), nil
}

// chargeParam reads the charge that a request names, itself or by its payment
// intent.
func (s *Sim) chargeParam(c *call) *charge {
	intent, name := c.str("payment_intent"), "charge"
	if intent != "" {
		name = "payment_intent"
	}
	id := c.must(name)
	if intent != "" && c.str("charge") != "" {
		c.fail(invalid("charge", "You may only specify one of these parameters: charge, payment_intent."))
	}
	ch, ok := s.chargeOf(id)
	if !ok {
		c.fail(noSuch(name, id, name))
	}
	return ch
}

// chargeOf finds a charge by its id or by that of its payment intent.
func (s *Sim) chargeOf(id string) (*charge, bool) {
	if pi, ok := s.intents.get(id); ok {
		id = pi.Charge
	}
	return s.charges.get(id)
}

func (s *Sim) refund(by cause, ch *charge, rf *refund, amount int64) *apiError {
	left := ch.Amount - ch.Refunded
	if amount == 0 {
		amount = left
	}
	switch {
	case ch.Failure != "":
		return invalid("charge", "Charge "+ch.ID+" was not successful and cannot be refunded.")
	case ch.Disputed:
		return invalidCode("charge_disputed", "", "Charge "+ch.ID+" has been charged back; cannot issue a refund.")
	case left == 0:
		return invalidCode("charge_already_refunded", "", "Charge "+ch.ID+" has already been refunded.")
	case amount > left:
		return invalid("amount", "Refund amount ("+dollars(amount)+") is greater than unrefunded amount on charge ("+dollars(left)+")")
	}
	rf.ID, rf.Created, rf.Charge, rf.Intent, rf.Amount = s.ids.next("re_3", 23), s.instant, ch.ID, ch.Intent, amount
	s.refunds.add(rf)
	ch.Refunded += amount
	s.emit(by, "charge.refunded", renderCharge(ch), object{"amount_refunded": ch.Refunded - amount})
	return nil
}

// Refund gives back a payment as somebody would in the dashboard: an amount of
// it, or for 0 all that is left. It takes the id of a charge, a payment intent or
// an invoice.
func (s *Sim) Refund(id string, amount int64) (refundID string, err error) {
	err = s.change(func() error {
		ch, err := s.paymentOf(id)
		if err != nil {
			return err
		}
		rf := &refund{}
		if err := s.refund(cause{}, ch, rf, amount); err != nil {
			return errors.New("stripesim: " + err.message)
		}
		refundID = rf.ID
		return nil
	})
	return refundID, err
}

func (s *Sim) paymentOf(id string) (*charge, error) {
	if inv, ok := s.invoices.get(id); ok && strings.HasPrefix(id, "in_") {
		id = inv.Charge
	}
	ch, ok := s.chargeOf(id)
	if !ok {
		return nil, errors.New("stripesim: there is no charge for " + id)
	}
	return ch, nil
}

func (s *Sim) getRefund(c *call) (object, *apiError) {
	rf, ok := s.refunds.get(c.id)
	if !ok {
		return nil, notFound("refund", c.id)
	}
	return renderRefund(rf), nil
}

func (s *Sim) listRefunds(c *call) (object, *apiError) {
	charge, intent, created := c.str("charge"), c.str("payment_intent"), c.created()
	return c.page(s.refunds.newest(func(rf *refund) bool {
		return (charge == "" || rf.Charge == charge) && (intent == "" || rf.Intent == intent) && created.has(rf.Created)
	}, renderRefund))
}

func renderRefund(rf *refund) object {
	return object{
		"id": rf.ID, "object": "refund", "amount": rf.Amount, "balance_transaction": nil, "charge": rf.Charge,
		"created": rf.Created.Unix(), "currency": currency, "metadata": renderMetadata(rf.Metadata),
		"payment_intent": orNull(rf.Intent), "reason": orNull(rf.Reason), "receipt_number": nil,
		"source_transfer_reversal": nil, "status": "succeeded", "transfer_reversal": nil,
	}
}
