package stripesim

import "time"

const (
	intentNeedsMethod = "requires_payment_method"
	intentNeedsAction = "requires_action"
	intentSucceeded   = "succeeded"
	intentCanceled    = "canceled"
)

type paymentIntent struct {
	ID          string
	Secret      string
	Created     time.Time
	Customer    string
	Amount      int64
	Description string
	Metadata    map[string]string
	Invoice     string
	Status      string
	Charge      string // the latest
	Failure     string // the code of the last failed attempt
	Decline     string
	Message     string
	CanceledAt  time.Time
	CancelledBy string
}

func (pi *paymentIntent) key() string { return pi.ID }

type charge struct {
	ID          string
	Created     time.Time
	Intent      string
	Customer    string
	Invoice     string
	Amount      int64
	Refunded    int64
	Description string
	Metadata    map[string]string
	Failure     string // none if it succeeded
	Decline     string
	Message     string
	Disputed    bool
}

func (ch *charge) key() string { return ch.ID }

// newIntent makes a payment intent that waits for its first attempt.
func (s *Sim) newIntent(by cause, pi *paymentIntent) {
	pi.ID, pi.Created, pi.Status = s.ids.next("pi_3", 23), s.instant, intentNeedsMethod
	pi.Secret = pi.ID + "_secret_" + s.ids.next("", 25)
	s.intents.add(pi)
	s.emit(by, "payment_intent.created", renderIntent(pi), nil)
}

func (s *Sim) intentFor(by cause, inv *invoice) {
	pi := &paymentIntent{
		Customer: inv.Customer.ID, Amount: inv.amountDue(), Invoice: inv.ID, Description: inv.purpose(),
	}
	s.newIntent(by, pi)
	inv.PaymentIntent = pi.ID
}

// purpose is how Stripe describes the payment of an invoice.
func (inv *invoice) purpose() string {
	switch inv.Reason {
	case reasonCreate:
		return "Subscription creation"
	case reasonManual:
		return "Payment for Invoice"
	}
	return "Subscription update"
}

// pay tries a payment intent with the customer's card. What failed and what
// succeeded is a charge either way, unless no bank was asked.
func (s *Sim) pay(by cause, pi *paymentIntent, cust *customer, onSession bool) *decline {
	failure := cust.Card.judge(onSession)
	s.settleIntent(by, pi, failure)
	return failure
}

// settleIntent notes how an attempt went.
func (s *Sim) settleIntent(by cause, pi *paymentIntent, failure *decline) {
	if failure == nil {
		s.newCharge(by, pi, decline{})
		pi.Status, pi.Failure, pi.Decline, pi.Message = intentSucceeded, "", "", ""
		s.emit(by, "payment_intent.succeeded", renderIntent(pi), nil)
		return
	}
	pi.Failure, pi.Decline, pi.Message = failure.code, failure.declineCode, failure.message
	if failure.code == "authentication_required" {
		pi.Status = intentNeedsAction
		s.emit(by, "payment_intent.requires_action", renderIntent(pi), nil)
		return
	}
	if failure.code == "card_declined" {
		s.newCharge(by, pi, *failure)
	}
	s.emit(by, "payment_intent.payment_failed", renderIntent(pi), nil)
}

func (s *Sim) newCharge(by cause, pi *paymentIntent, failure decline) {
	ch := &charge{
		ID: s.ids.next("ch_3", 23), Created: s.instant, Intent: pi.ID, Customer: pi.Customer, Invoice: pi.Invoice,
		Amount: pi.Amount, Description: pi.Description, Metadata: pi.Metadata,
		Failure: failure.code, Decline: failure.declineCode, Message: failure.message,
	}
	s.charges.add(ch)
	pi.Charge = ch.ID
	kind := "charge.succeeded"
	if ch.Failure != "" {
		kind = "charge.failed"
	}
	s.emit(by, kind, renderCharge(ch), nil)
}

func (s *Sim) cancelIntent(by cause, id, reason string) {
	pi, ok := s.intents.get(id)
	if !ok || pi.Status == intentSucceeded || pi.Status == intentCanceled {
		return
	}
	pi.Status, pi.CanceledAt, pi.CancelledBy = intentCanceled, s.instant, reason
	s.emit(by, "payment_intent.canceled", renderIntent(pi), nil)
}

func (s *Sim) getCharge(c *call) (object, *apiError) {
	ch, ok := s.charges.get(c.id)
	if !ok {
		return nil, notFound("charge", c.id)
	}
	return renderCharge(ch), nil
}

func (s *Sim) listCharges(c *call) (object, *apiError) {
	cust, intent, created := s.customerFilter(c), c.str("payment_intent"), c.created()
	return c.page(s.charges.newest(func(ch *charge) bool {
		return (cust == "" || ch.Customer == cust) && (intent == "" || ch.Intent == intent) && created.has(ch.Created)
	}, renderCharge))
}

func (s *Sim) getIntent(c *call) (object, *apiError) {
	pi, ok := s.intents.get(c.id)
	if !ok {
		return nil, notFound("payment_intent", c.id)
	}
	return renderIntent(pi), nil
}

func (s *Sim) listIntents(c *call) (object, *apiError) {
	cust, created := s.customerFilter(c), c.created()
	return c.page(s.intents.newest(func(pi *paymentIntent) bool {
		return (cust == "" || pi.Customer == cust) && created.has(pi.Created)
	}, renderIntent))
}
