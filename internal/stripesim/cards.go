package stripesim

import (
	"errors"
	"net/http"
)

// CardOutcome is what becomes of payments by a card.
type CardOutcome string

const (
	// Succeeds is what a customer's card does unless told otherwise, as Stripe's
	// test card 4242 4242 4242 4242.
	Succeeds CardOutcome = "succeeds"
	// Declines is 4000 0000 0000 0341: it can be kept and cannot be charged.
	Declines CardOutcome = "declines"
	// RequiresAuthentication is 4000 0027 6000 3184: it pays while the customer is
	// on a page to confirm it, and not at a renewal.
	RequiresAuthentication CardOutcome = "requires_authentication"
	// NoCard is a customer without a card.
	NoCard CardOutcome = "none"
)

// Card is a customer's default card.
type Card struct {
	Outcome CardOutcome `json:"outcome"`
	// Times is how many payments a card that declines is to decline before it
	// succeeds again; 0 is all of them.
	Times int `json:"times"`
}

func (c Card) validate() error {
	switch c.Outcome {
	case Succeeds, Declines, RequiresAuthentication, NoCard:
	default:
		return &pageError{http.StatusBadRequest, "There is no card that " + string(c.Outcome) + "."}
	}
	if c.Times < 0 || c.Times > 0 && c.Outcome != Declines {
		return &pageError{http.StatusBadRequest, "Only a card that declines does so a number of times."}
	}
	return nil
}

// decline is why a card did not pay.
type decline struct {
	code        string
	declineCode string
	message     string
}

// judge is what the card says to one payment. It uses up a limited number of
// declines.
func (c *Card) judge(onSession bool) *decline {
	switch c.Outcome {
	case Declines:
		if c.Times == 1 {
			*c = Card{Outcome: Succeeds}
		}
		c.Times = max(0, c.Times-1)
		return &decline{"card_declined", "generic_decline", "Your card was declined."}
	case RequiresAuthentication:
		if !onSession {
			return &decline{
				"authentication_required", "authentication_required",
				"Your card was declined. This transaction requires authentication.",
			}
		}
	case NoCard:
		return &decline{code: "resource_missing", message: "This customer has no attached payment source or default payment method."}
	case Succeeds:
	}
	return nil
}

// cardError is a decline as the API tells it.
func (d *decline) cardError() *apiError {
	if d.code == "resource_missing" {
		return invalidCode(d.code, "", d.message)
	}
	return &apiError{status: http.StatusPaymentRequired, kind: "card_error", code: d.code, declineCode: d.declineCode, message: d.message}
}

// SetCard gives a customer another default card.
func (s *Sim) SetCard(customerID string, card Card) error {
	if err := card.validate(); err != nil {
		return err
	}
	return s.change(func() error {
		cust, ok := s.customers.get(customerID)
		if !ok || cust.Deleted {
			return errors.New("stripesim: there is no customer " + customerID)
		}
		cust.Card = card
		return nil
	})
}

// pageCards are the cards to choose from on a page.
func pageCards() []CardOutcome { return []CardOutcome{Succeeds, Declines, RequiresAuthentication} }

// cardOf is the card chosen on a page, nil for the one the customer has.
func cardOf(r *http.Request) *Card {
	card := Card{Outcome: CardOutcome(r.PostFormValue("card"))}
	if card.validate() != nil {
		return nil
	}
	return &card
}
