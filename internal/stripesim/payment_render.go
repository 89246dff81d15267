package stripesim

func renderIntent(pi *paymentIntent) object {
	received := int64(0)
	if pi.Status == intentSucceeded {
		received = pi.Amount
	}
	var failure, action any
	if pi.Failure != "" {
		e := object{"type": "card_error", "code": pi.Failure, "message": pi.Message}
		if pi.Decline != "" {
			e["decline_code"] = pi.Decline
		}
		failure = e
	}
	if pi.Status == intentNeedsAction {
		action = object{"type": "use_stripe_sdk", "use_stripe_sdk": object{}}
	}
	return object{
		"id": pi.ID, "object": "payment_intent", "amount": pi.Amount, "amount_capturable": 0,
		"amount_details": object{"tip": object{}}, "amount_received": received, "application": nil,
		"application_fee_amount": nil, "automatic_payment_methods": nil, "canceled_at": unixOrNull(pi.CanceledAt),
		"cancellation_reason": orNull(pi.CancelledBy), "capture_method": "automatic", "client_secret": pi.Secret,
		"confirmation_method": "automatic", "created": pi.Created.Unix(), "currency": currency,
		"customer": orNull(pi.Customer), "description": orNull(pi.Description), "invoice": orNull(pi.Invoice),
		"last_payment_error": failure, "latest_charge": orNull(pi.Charge), "livemode": false,
		"metadata": renderMetadata(pi.Metadata), "next_action": action, "on_behalf_of": nil, "payment_method": nil,
		"payment_method_options": object{}, "payment_method_types": []any{"card"}, "processing": nil,
		"receipt_email": nil, "review": nil, "setup_future_usage": nil, "shipping": nil, "statement_descriptor": nil,
		"statement_descriptor_suffix": nil, "status": pi.Status, "transfer_data": nil, "transfer_group": nil,
	}
}

func renderCharge(ch *charge) object {
	status, captured := "succeeded", ch.Amount
	outcome := object{
		"network_status": "approved_by_network", "reason": nil, "risk_level": "normal", "seller_message": "Payment complete.",
		"type": "authorized", "advice_code": nil, "network_advice_code": nil, "network_decline_code": nil,
	}
	if ch.Failure != "" {
		status, captured = "failed", 0
		outcome["network_status"], outcome["reason"] = "declined_by_network", orNull(ch.Decline)
		outcome["type"], outcome["seller_message"] = "issuer_declined", "The bank did not return any further details with this decline."
	}
	return object{
		"id": ch.ID, "object": "charge", "amount": ch.Amount, "amount_captured": captured,
		"amount_refunded": ch.Refunded, "application": nil, "application_fee": nil, "application_fee_amount": nil,
		"balance_transaction": nil,
		"billing_details":     object{"address": nil, "email": nil, "name": nil, "phone": nil, "tax_id": nil},
		"captured":            ch.Failure == "", "created": ch.Created.Unix(), "currency": currency,
		"customer": orNull(ch.Customer), "description": orNull(ch.Description), "disputed": ch.Disputed,
		"failure_balance_transaction": nil, "failure_code": orNull(ch.Failure), "failure_message": orNull(ch.Message),
		"fraud_details": object{}, "invoice": orNull(ch.Invoice), "livemode": false, "metadata": renderMetadata(ch.Metadata),
		"on_behalf_of": nil, "outcome": outcome, "paid": ch.Failure == "", "payment_intent": orNull(ch.Intent),
		"payment_method": nil, "payment_method_details": nil, "receipt_email": nil, "receipt_number": nil,
		"receipt_url": nil, "refunded": ch.Failure == "" && ch.Refunded == ch.Amount, "review": nil, "shipping": nil,
		"source_transfer": nil, "statement_descriptor": nil, "statement_descriptor_suffix": nil, "status": status,
		"transfer_data": nil, "transfer_group": nil,
	}
}
