package stripesim

import (
	"net/http"
	"strings"
)

// CompleteCheckout pays for a session as a person on its page would, with the
// customer's card. If that declines, the session stays open.
func (s *Sim) CompleteCheckout(sessionID string) error {
	_, err := s.complete(sessionID, "", nil)
	return err
}

// CompleteCheckoutWith pays with another card, which becomes the customer's
// unless it declines.
func (s *Sim) CompleteCheckoutWith(sessionID string, card Card) error {
	if err := card.validate(); err != nil {
		return err
	}
	_, err := s.complete(sessionID, "", &card)
	return err
}

// complete pays for a session and returns where to send the browser. The e-mail
// counts only if neither customer nor session has one.
func (s *Sim) complete(sessionID, email string, card *Card) (redirect string, err error) {
	err = s.change(func() error {
		redirect, err = s.payFor(sessionID, email, card)
		return err
	})
	return redirect, err
}

func (s *Sim) payFor(sessionID, email string, card *Card) (redirect string, err error) {
	cs, ok := s.sessions.get(sessionID)
	switch {
	case !ok:
		return "", &pageError{http.StatusNotFound, "There is no checkout session " + sessionID + "."}
	case cs.Status != sessionOpen:
		return "", &pageError{http.StatusConflict, "This checkout session is " + cs.Status + ". Nothing was changed."}
	case cs.Customer != nil && cs.Customer.Deleted:
		return "", &pageError{http.StatusConflict, "The customer of this checkout session was deleted."}
	}
	payer, guest := s.payer(cs, email)
	used := payer.Card
	if card != nil {
		used = *card
	}
	failure := s.tryCheckout(cs, payer, &used)
	if card == nil || failure == nil {
		payer.Card = used // with the declines it has left
	}
	if failure != nil {
		return "", &pageError{http.StatusPaymentRequired, failure.message + " Nothing was paid."}
	}
	if !guest {
		s.register(cs, payer)
	}
	s.fulfil(cs, payer)
	cs.Status = sessionComplete
	s.emit(cause{}, "checkout.session.completed", renderSession(cs), nil)
	// The placeholder is how a success page learns which session to look up.
	return strings.ReplaceAll(cs.SuccessURL, "{CHECKOUT_SESSION_ID}", cs.ID), nil
}

// payer is the session's customer or a new one, which is not known yet. A guest
// never is.
func (s *Sim) payer(cs *checkoutSession, email string) (cust *customer, guest bool) {
	if cs.Customer != nil {
		return cs.Customer, false
	}
	cust = s.newCustomer(s.instant)
	cust.Email = firstOf(cs.Email, email, "payer@example.com")
	cs.PayerEmail = cust.Email
	return cust, cs.Mode == modePayment && cs.Creation != "always"
}

func (s *Sim) register(cs *checkoutSession, cust *customer) {
	if cs.Customer == nil {
		cs.Customer = cust
		s.addCustomer(cause{}, cust)
	}
}

// tryCheckout asks the card before anything is made of the payment. A refused one
// leaves no subscription; a payment intent notes it.
func (s *Sim) tryCheckout(cs *checkoutSession, cust *customer, card *Card) *decline {
	if cs.total() == 0 || cs.TrialDays > 0 {
		return nil
	}
	failure := card.judge(true)
	if failure != nil && cs.Mode == modePayment {
		pi := s.sessionIntent(cs, cust)
		s.settleIntent(cause{}, pi, failure)
	}
	return failure
}

// fulfil makes what was bought. The session's own metadata stays with the
// session. Only subscription_data and payment_intent_data reach what a webhook
// handler gets to see.
func (s *Sim) fulfil(cs *checkoutSession, cust *customer) {
	if cs.Mode == modePayment {
		if cs.total() > 0 {
			s.settleIntent(cause{}, s.sessionIntent(cs, cust), nil)
		}
		return
	}
	sub := &subscription{
		Price: cs.Price, Quantity: cs.Quantity, Metadata: cs.SubMetadata, Description: cs.SubText, NoCardBehavior: cs.NoCardBehavior,
	}
	if cs.TrialDays > 0 {
		sub.TrialEnd = addMonths(s.instant, 0).AddDate(0, 0, int(cs.TrialDays))
	}
	inv := s.subscribe(cause{}, cust, sub, true)
	cs.Subscription, cs.Invoice = sub.ID, inv.ID
}

// sessionIntent is the one payment intent of a session, which several cards may
// be tried with.
func (s *Sim) sessionIntent(cs *checkoutSession, cust *customer) *paymentIntent {
	if pi, ok := s.intents.get(cs.Intent); ok {
		return pi
	}
	pi := &paymentIntent{Amount: cs.total(), Metadata: cs.IntentMetadata, Description: cs.IntentText}
	if cs.Customer != nil {
		pi.Customer = cust.ID
	}
	s.newIntent(cause{}, pi)
	cs.Intent = pi.ID
	return pi
}
