mode => {
  // While its choices change, a radio's value may be what it shows.
  if (['auto', 'ask', 'advise'].includes(mode)) bianque.set('mode', mode);
  return [bianque.prefs.mode || 'auto'];
}
