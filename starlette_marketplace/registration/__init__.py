"""Who came: from the POST to the fulfillment URL to the signed registration session."""
