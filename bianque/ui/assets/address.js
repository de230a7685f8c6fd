(end, kept) => [location.search + location.hash, kept]
