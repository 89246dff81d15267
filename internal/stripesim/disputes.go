package stripesim

import (
	"errors"
	"time"
)

const (
	disputeOpen = "needs_response"
	disputeWon  = "won"
	disputeLost = "lost"

	// answerTime is how long a merchant has to answer a dispute.
	answerTime = 9 * 24 * time.Hour
)

type dispute struct {
	ID      string
	Created time.Time
	Charge  string
	Intent  string
	Amount  int64
	Status  string
}

func (dp *dispute) key() string { return dp.ID }

// OpenDispute has the customer's bank take a payment back. It takes the id of a
// charge, a payment intent or an invoice.
func (s *Sim) OpenDispute(id string) (disputeID string, err error) {
	err = s.change(func() error {
		ch, err := s.paymentOf(id)
		switch {
		case err != nil:
			return err
		case ch.Failure != "" || ch.Disputed:
			return errors.New("stripesim: the charge " + ch.ID + " cannot be disputed")
		}
		dp := &dispute{
			ID: s.ids.next("dp_1", 23), Created: s.instant, Charge: ch.ID, Intent: ch.Intent,
			Amount: ch.Amount - ch.Refunded, Status: disputeOpen,
		}
		s.disputes.add(dp)
		ch.Disputed = true
		disputeID = dp.ID
		s.emit(cause{}, "charge.dispute.created", renderDispute(dp), nil)
		s.emit(cause{}, "charge.dispute.funds_withdrawn", renderDispute(dp), nil)
		return nil
	})
	return disputeID, err
}

// CloseDispute ends a dispute, won or lost by the merchant.
func (s *Sim) CloseDispute(id string, won bool) error {
	return s.change(func() error {
		dp, ok := s.disputes.get(id)
		if !ok || dp.Status != disputeOpen {
			return errors.New("stripesim: there is no open dispute " + id)
		}
		dp.Status = disputeLost
		if won {
			dp.Status = disputeWon
		}
		s.emit(cause{}, "charge.dispute.closed", renderDispute(dp), object{"status": disputeOpen})
		if won {
			s.emit(cause{}, "charge.dispute.funds_reinstated", renderDispute(dp), nil)
		}
		return nil
	})
}

func (s *Sim) getDispute(c *call) (object, *apiError) {
	dp, ok := s.disputes.get(c.id)
	if !ok {
		return nil, notFound("dispute", c.id)
	}
	return renderDispute(dp), nil
}

func (s *Sim) listDisputes(c *call) (object, *apiError) {
	charge, intent, created := c.str("charge"), c.str("payment_intent"), c.created()
	return c.page(s.disputes.newest(func(dp *dispute) bool {
		return (charge == "" || dp.Charge == charge) && (intent == "" || dp.Intent == intent) && created.has(dp.Created)
	}, renderDispute))
}

func renderDispute(dp *dispute) object {
	return object{
		"id": dp.ID, "object": "dispute", "amount": dp.Amount, "balance_transactions": []any{}, "charge": dp.Charge,
		"created": dp.Created.Unix(), "currency": currency, "enhanced_eligibility_types": []any{},
		"evidence": object{"enhanced_evidence": object{}},
		"evidence_details": object{
			"due_by": dp.Created.Add(answerTime).Unix(), "enhanced_eligibility": object{}, "has_evidence": false,
			"past_due": false, "submission_count": 0,
		},
		"is_charge_refundable": false, "livemode": false, "metadata": object{}, "payment_intent": orNull(dp.Intent),
		"reason": "fraudulent", "status": dp.Status,
	}
}
