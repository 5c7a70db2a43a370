"""Words of the prompt rule in English, German, French and Spanish, as patterns over folded text (`letters.fold`).

Folded means lower case without accents, ß as ss, but with ñ. Every pattern stands for whole words.
"""

MINORS = r"""
child|childs|children|childrens|childlike|kids?|kiddos?|kidd(?:y|ies?)|toddlers?|bab(?:y|ys|ies)|infants?|newborns?|minors?
underaged?|under\W?age|pre\W?teens?|tweens?|teens?|teen(?:boy|girl)s?|teenage|teenaged|teenagers?|teeny|teenies?|teenie|adolescents?|juveniles?
pre\W?pubescents?|pubescent|lolis?|lolitas?|shotas?|jail\W?bait|tots?|youngsters?
school\W?(?:girl|boy|kid|child|children)s?|(?:little|young|small|tiny|underage)\W(?:girl|boy|one|sister|brother|daughter|son)s?|boys?
(?:elementary|primary|middle|high|grade)\W?school(?:er|ers|girl|girls|boy|boys)?|(?:first|second|third|fourth|fifth|sixth|seventh|eighth)\W?graders?
kindergart(?:en|ener|eners|ner|ners)|girl\Wscouts?|cub\Wscouts?
kinder|kindern|kindes|kindchen|kindlich\w*|kleinkind\w*|schulkind\w*|madchen|maedchen|madels?|(?:kleine?r?n?)\Wjungen?|schulmadchen|schuljungen?
schulerin(?:nen)?|schuler|grundschul\w*|minderjahrig\w*|jugendlich\w*|sauglinge?n?|babys|bubs?|buben?|teenies
enfants?|fillettes?|gamine?s?|gosses?|petite?s?\W(?:fille|garcon)s?|jeunes?\Wfilles?|garconnets?|garcons?|bebes?|ados?|adolescente?s?
mineure?s?|ecoliere?s?|collegien(?:ne)?s?|lyceen(?:ne)?s?|nourrissons?|bambins?
niñ(?:o|a)s?|niñit(?:o|a)s?|nen(?:a|e)s?|chiquill(?:o|a)s?|adolescentes?|menor(?:es)?|colegial(?:a|es|as)?|escolar(?:es)?|parvul(?:o|a)s?|infantes?|infantil
"""

_UP_TO_17 = r"(?<![\d.,])(?:1[0-7]|\d)"
_EN = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
_DE = "ein|zwei|drei|vier|funf|sechs|sieben|acht|neun|zehn|elf|zwolf|dreizehn|vierzehn|funfzehn|sechzehn|siebzehn"
_FR = "deux|trois|quatre|cinq|six|sept|huit|neuf|dix|onze|douze|treize|quatorze|quinze|seize|dix\\Wsept"
_ES = "dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|once|doce|trece|catorce|quince|dieciseis|diecisiete"

AGES = rf"""
(?:{_UP_TO_17}|{_EN})\W{{0,3}}(?:y(?:ea)?rs?|months?)\W{{0,2}}olds?
(?:{_UP_TO_17}|{_EN})\W{{0,2}}y\W{{0,2}}o(?:\W?s)?
{_UP_TO_17}(?:st|nd|rd|th)\Wbirthday|(?:girl|boy|she|he|daughter|son)\W(?:is|was|turn(?:s|ed))\W(?:only\W|just\W)?(?:1[0-7]|\d|{_EN})(?!\d)
age[ds]?\W{{0,3}}(?:of\W)?(?:1[0-7]|\d|{_EN})(?!\d)
(?:{_UP_TO_17}|{_DE})\W{{0,2}}jahr(?:en?|ig\w*)?(?:\Walt\w*)?
(?:{_UP_TO_17}|{_FR})\W{{0,2}}ans
(?:{_UP_TO_17}|{_ES})\W{{0,2}}a[nñ]os
"""

EXPLICIT = r"""
nsfw|porn\w*|\w+porn|sex|sexual\w*|sexuali[sz]\w*|erotic\w*|erotik\w*|erotis\w*|erotique\w*|hentai|ecchi|lewd\w*|fetish\w*|bdsm|orgasm\w*|orgy|orgies|masturbat\w*
genital\w*|penis\w*|vagina\w*|vulva\w*|pussy|blow\W?jobs?|cum|intercourse|rap(?:e|ed|ing|ist)|molest\w*|bondage|xxx|rule\W?34|onlyfans|horny|aroused
sexe|sexes|sexuel\w*|sexuell\w*|geschlechts(?:teil\w*|verkehr)|vergewaltig\w*|sexo|pene|viol(?:er|ee|ada|ado)|obscen\w*
"""

BARE = r"""
nudes?|nudity|nudist\w*|nudez|naked\w*|nekkid|noods?|nakd|sexy|sexi(?:er|est)|sext(?:ing|s|ed)?|topless|bottomless|undress\w*|unclothed|disrob\w*|upskirt|lingerie
panties|thongs?|tangas?|micro\W?bikinis?|striptease|strippers?|stripped\W(?:naked|bare)|seductive\w*|sensual\w*|provocative\w*|see\W?through|uncensored|cleavage
breasts|bare\W(?:breasts?|bottoms?|butts?|ass|skin)|nipples?|boobs?|tits|underwear
(?:without|no|removed|remov(?:es|ing)|tak(?:es|ing)\Woff)(?:\W(?:any|her|his|their|its|the))?\W(?:clothes|clothing|clothe|pants|panties|shirts?|underwear|dress|bra)
(?:wearing|with|in)\Wnothing(?:\Won)?|in\Wthe\Wbuff|birthday\Wsuits?
\w*nackt(?:e[rnsm]?|heit)?|nackig\w*|unbekleidet\w*|entkleidet\w*|entblosst\w*|oben\Wohne|unterwasche|dessous|reizwasche|busen|bruste|nippel|brustwarzen?
ohne\W(?:ihre\W|seine\W)?(?:kleid\w*|klamotten|hosen?|unterwasche|hoschen|hemd|bekleidung)|aktfoto\w*|aktmodell\w*|freizugig\w*|aufreizend\w*|lasziv\w*|verfuhrerisch\w*
nue?s?|denude\w*|deshabill\w*|devetue?s?|nudite|lascif|lascives?|sensuel\w*|fesses|seins|a\Wpoil|en\Wpetite\Wtenue|sous\W?vetements
sans\W(?:ses\W)?(?:vetements?|habits|culotte|maillot|haut|sous\W?vetements)
\w*desnud\w*|en\W(?:cueros|pelotas)|encuerad\w*|senos|tetas|pechos|pezon\w*|lenceria|ropa\Winterior|bragas?|braguitas?|provocativ\w*|lasciv[oa]s?|desvestid\w*|desvisti\w*
sin\W(?:su\W)?(?:ropas?|camisa|bragas|pantalon\w*|vestir|nada)
"""

# Words that are minors in one language only, and what must be bare in the same one.
AMBIGUOUS = (
    (
        r"kind|jungen?(?=\s*(?:[,.;!?]|$|(?:im|von|am|mit|ohne|unter|beim|in|auf)\b))",
        r"\w*nackt(?:e[rnsm]?)?|nackig\w*|unbekleidet\w*|entkleidet\w*|dessous|reizwasche|erotisch\w*"
        r"|ohne\W(?:kleid\w*|hosen?|hoschen|unterwasche)",
    ),
    (r"nin(?:o|a)s?|niniat(?:o|a)s?", r"\w*desnud\w*|sin\Wropas?|sexo|lenceria|ropa\Winterior|bragas"),
)

ALWAYS = r"""
child(?:ren)?s?\W?porn\w*|kiddie\W?porn\w*|kinder\W?porn\w*|pedo\W?porn\w*|porn\w*\Winfantil\w*|lolicons?|shotacons?|toddlercons?|csam
bestiality|zoophil\w*|zoofil\w*|animal\Wsex|sex(?:o|e)?\W(?:with|mit|con|avec)\W(?:(?:an?|the|her|his|einem|un|una|des)\W)?(?:animals?|tiere?n?|animales|animaux|dogs?|hund\w*|horses?|pferd\w*|perros?|chiens?)
sex\Wmit\Wkindern|sexo\Wcon\Wniños|sexe\Wavec\W(?:des\W)?enfants
"""

# Words whose letters are looked for even with separators between them.
HIDDEN = "nude naked nudity sexy porn nsfw topless erotic child children toddler kids teenager schoolgirl nackt desnuda"

_COLOURED = (
    r"colou?r\w*|tones?|tonen|shades?|palettes?|lipsticks?|nails?|polish|heels?|pumps?|make\W?up|beige|pink|gloss|stockings?|suede"
    r"|leather|fabric|walls?|boots|shoes?|background|linen|tights|eyeshadow|hues?|vase|handbags?"
)
_THINGS = (
    r"eyes?|mole\W?rats?|cakes?|juice|truth|guns?|flames?|bulbs?|lunch|trees?|branch\w*|twigs?|wood\w*|bricks?|wires?|bikes?|motorcycles?"
    r"|necks?|rocks?|cliffs?|soil|walls?|concrete|raw|pizzas?|dough|landscapes?|oak|pine|timber|steel|canvas|reefs?|earth|hills?"
)
_BABY_THINGS = (
    r"showers?|blue|pink|dolls?|bumps?|oil|carrots?|corn|spinach|grand|groot|yoda|breath|names?|monitors?|announcement|steps?"
    r"|birds?|elephants?|animals?|rabbits?|bunn\w+|hamsters?|mice|mouse|sloths?|seals?|owls?|penguins?|rats?|dragons?"
)
_MINOR_THINGS = (
    r"keys?|chords?|scales?|leagues?|details?|characters?|damage|planets?|changes?|roles?|adjust\w*|arcana|flaws?"
    r"|blemish\w*|edits?|earthquakes?"
)

# Phrases in which the words above mean something else; they are taken out before the rule looks.
HARMLESS = rf"""
nude(?:\W(?:and|or|with)\W\w+)?\W(?:{_COLOURED})|(?:tonos|tons|vernis)\Wnude|nude\Wtonen
(?:naked|nude)\W(?:wooden|{_THINGS})|naked\Wbaby\W(?:birds?|mice|mouse|rats?)|baby\W(?:{_BABY_THINGS})|baby\Ws\Wbreath|child\Ws\Wpose|(?:rose|bleu)\Wbebe
(?:{_MINOR_THINGS})\W(?:of\W)?minor|minor\W(?:{_MINOR_THINGS})|(?:ursa|canis|asia|leo)\Wminor|[b-g](?:\W(?:sharp|flat))?\Wminor
(?:sonata|concerto|symphony|prelude|fugue|etude|waltz|mass|quartet|nocturne|ballade|suite)(?:\W\w+)?\Win\Wa\Wminor
(?:do|re|mi|fa|sol|la|si)(?:\W(?:diese|bemol))?\Wmineur|details?\Wmineure?s?|mineurs?\Wde\W(?:charbon|fond)|(?:en\W)?(?:do|re|mi|fa|sol|la|si)\Wmenor|menor\W(?:numero|cantidad|medida|importancia|detalle|tamaño)
kid\W(?:gloves?|leather|goats?|rock|cudi|icarus)|(?:billy\W)the\Wkid|new\Wkids?\Won\Wthe\Wblock|game\W?boys?|boy\W?shorts|fall\Wout\Wboy
teenage\Wmutant(?:\Wninja)?\Wturtles?|teen\W(?:titans|spirit)|kinder\W(?:surprise|joy|bueno|chocolate|eggs?)
topless\W(?:cars?|convertibles?|jeeps?|bus|buses|tours?)
(?:same|opposite)\Wsex|sex\W(?:education|ed|and\Wthe\Wcity|pistols|on\Wthe\Wbeach|differences?|reveal)|sex\Wof\W(?:the\W|a\W|their\W)?(?:baby|child|kitten|puppy)|sexualkunde
(?:education|educacion)\Wsexuel?l?e?|educacion\Wsexual|meme\Wsexe|mismo\Wsexo|egalite\Wdes\Wsexes|igualdad\Wde\Wsexos
thong\Wsandals?|sexy\W(?:(?:sports?\W)?cars?|fonts|typography|beast|lettering)|summa\Wcum\Wlaude|magna\Wcum\Wlaude|cum\Wlaude|(?:bottle|silicone|pacifier|feeding)\Wnipples?
chicken\Wbreasts|robins?\W(?:red\W)?breasts?|see\W?through\W(?:window|glass|roof|plastic|bag)\w*
(?:no|without|not|non|never|zero|keine?|ohne|sans|sin|pas\Wde|ni|free\Wof)\W(?:any\W)?(?:nudity|nude|nsfw|sexual\w*|sex|porn|nacktheit|nudite|desnudos|desnudez)
nackte[nmrs]?\W(?:baum\w*|fels\w*|schultern?|wande?|beton|tatsachen|wahrheit|fusse\w*|aste\w*)|(?:mit\W)?nacktem\Wauge
nue?\W(?:tete|pieds)|(?:pieds|mains|arbres|bras|murs|rochers)\Wnue?s|oeil\Wnu|tete\Wnue
(?:arbol(?:es)?|pies|manos|hombros|ramas|paredes)\Wdesnud\w*|ojo\Wdesnudo
(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)\W(?:one|two|three|four|five|six|seven|eight|nine)
(?:vingt|trente|quarante|cinquante|soixante|quatre\Wvingt)\W(?:et\W)?(?:un|deux|trois|quatre|cinq|six|sept|huit|neuf|dix|onze|douze|treize|quatorze|quinze|seize)
(?:treinta|cuarenta|cincuenta|sesenta|setenta|ochenta|noventa)\Wy\W(?:uno?|dos|tres|cuatro|cinco|seis|siete|ocho|nueve)
"""

CLOTHES = r"""
clothes|clothing|clothed|dressed|underwear|censor(?:ed|ing|ship)?|sfw|kleidung|kleider|bekleidet|angezogen|vetements?|habillee?s?|ropas?|vestid[oa]s?
"""
