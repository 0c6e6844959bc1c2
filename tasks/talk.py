"""What people say besides requests that the model can serve: small talk and what is out of scope, as
patterns of `grammar`. `small_talk` makes samples of them in free wording."""

from __future__ import annotations

TALK: dict[str, tuple[str, ...]] = {
    "greeting": (
        (
            "[hi|hello|hey|hi there|hello there|hey there|good morning|good evening|good afternoon|"
            "greetings|yo|howdy]"
        ),
        (
            "[hi|hello|hey|good morning|], [how are you|how are you doing|how is it going|what's up|"
            "how do you do][ today|]?"
        ),
        "[hi|hello|], [I am|I'm|my name is|this is] {name}",
        "nice to meet you[, I am {name}|]",
        "how [is your day|was your night|are things]?",
        "[are you there|anybody there|are you awake]?",
        "hello [again|world|my friend|computer|robot|assistant]",
        "[hope you are well|I hope you are fine]",
    ),
    "thanks": (
        "[thanks|thank you|thank you very much|thanks a lot|many thanks|thx|cheers|thank you so much|ty]",
        (
            "[thanks|thank you], [that was|this is|that is|you are] [great|perfect|helpful|very kind|"
            "nice|lovely|wonderful]"
        ),
        (
            "[great|good|nice|well done|perfect|wonderful|excellent|good job|nice work|very good|"
            "amazing|awesome]"
        ),
        "[great|good|nice|amazing] [work|job|picture|drawing|answer]",
        "[you are|you're] [great|the best|so good|very helpful|a good artist|clever]",
        "I [like|love] [it|that|this|the picture|your drawing|what you did]",
        (
            "[that's|that is|it is|it's] [beautiful|pretty|exactly what I wanted|what I meant|right|"
            "correct|cool]"
        ),
        "you have helped me[ a lot|]",
        "my {person} loved [it|the picture]",
    ),
    "farewell": (
        (
            "[bye|goodbye|bye bye|see you|see you later|see you tomorrow|ciao|farewell|good night|take "
            "care|so long]"
        ),
        "[I have|I've got|I need] to [go|leave|sleep|work][ now|][, bye|]",
        "[that is|that's|that was] all[ for today| for now|][, thanks|, bye|]",
        "[talk to you|see you|until] [later|soon|next time|tomorrow|next week]",
        "[bye|goodbye], {name} [has to go|is leaving]",
        "[I am|I'm] [done|leaving|off to {place}|going home]",
    ),
    "abilities": (
        "what [can|could] you do[ for me|]?",
        "what are you [good at|able to do|made for|capable of|for]?",
        "[how|what] can you help[ me| me with| us with|]?",
        "[can|could] you help[ me| my {person}|]?",
        "help[ me|]",
        "what [should|can|may] I ask[ you|]?",
        "what [else|other things] can you do?",
        "what [do you know|are your skills|are your abilities|can I do here]?",
        "[tell me|show me|explain] what you can do",
        "how [do I use you|does this work|do you work]?",
        "[list|name] your [skills|abilities|features|commands]",
        "which [tasks|things] can you [do|solve|handle]?",
        "[can you do|do you know] anything[ else|]?",
        "do you [draw|edit pictures|answer questions|solve mazes]?",
    ),
    "self": (
        "who [are you|made you|am I talking to|built you]?",
        "what [are you|kind of model are you|is your name|should I call you]?",
        (
            "are you [a human|human|a robot|a person|an AI|alive|real|a computer|conscious|intelligent|"
            "a large model]?"
        ),
        "how [old|big|smart|clever|large] are you?",
        (
            "[do you|can you] [sleep|dream|eat {dish}|feel anything|have feelings|think|like {dish}|"
            "like me|have a {person}]?"
        ),
        "are you from {place}?",
        "is your name {name}?",
        "where [do you live|are you|do you come from]?",
        "tell me [about yourself|who you are|something about you]",
        "what is your favourite [colour|shape|dish|animal]?",
    ),
    "acknowledgement": (
        (
            "[ok|okay|fine|alright|I see|right|sure|yes|yeah|yep|no|nope|hm|hmm|aha|got it|cool|well|"
            "so|maybe|wow|lol|haha]"
        ),
        "[ok|okay|fine], [good|then|I see|got it]",
        "[I am|I'm] [bored|tired|happy|back|here|waiting|listening|not sure]",
        "[let me think|one moment|wait|just a second|never mind|forget it|nothing]",
        "[what now|and now|what next|now what]?",
        "[I am|I'm] [only|just] [testing|trying you out|playing|looking around]",
        "test",
    ),
    "complaint": (
        (
            "[that is|that's|this is|it is|it's] [wrong|not right|bad|ugly|not what I wanted|not what "
            "I asked for|a mistake]"
        ),
        "[no|oh no], [that's|that is|this is] [wrong|not it|bad]",
        "you are [wrong|stupid|bad at this|useless|not very good|mistaken]",
        "I [don't|do not] [like it|like that|believe you|think so|agree]",
        (
            "[you made a mistake|you misunderstood me|are you sure?|that makes no sense|what was that?|"
            "try harder]"
        ),
        "[wrong|bad|no good|not good|false|terrible]",
    ),
    "unclear": (
        (
            "[asdf|qwerty|blah|blah blah|xyz|foo bar|lorem ipsum|jkl|aaaa|zzz|hjkl|la la la|tralala|"
            "uiop|ghgh|123|42|{number}]"
        ),
        (
            "[asdf|qwe|blub|wibble|frob|quux|snark|gniff|plonk|zorp] [asdf|glorp|wobble|brr|mumpf|tock|"
            "plim|snurf|gak|dree]"
        ),
        "[the the|and or|of in at|when which then|if but|because so|who whom|it is the]",
        "[?|??|...|!|!!!|:-)|;)|:(|<3|*]",
    ),
}
MISSING = "missing"  # what needs a picture, where there is none
TALK[MISSING] = (
    "[what|which] [colour|shape|size] is [the [circle|star|heart|square|object|cross|moon]|it|this]?",
    "what [is|do you see] in [the|this] picture?",
    "what do you see[ here|]?",
    "how many [circles|stars|objects|red things|shapes|squares|hearts] [are there|do you see]?",
    "[is there|do you see] a [red|blue|green|small|] [circle|star|heart|cross|triangle][ in the picture|]?",
    "where is the [circle|star|heart|square|blue object|cross|diamond]?",
    "describe [the|this] [picture|image]",
    "[remove|delete|erase|get rid of] the [circle|star|heart|red cross|square|moon]",
    "make [it|the star|the circle|the cross] [blue|red|bigger|smaller|green]",
    "[solve|find the way through] [the|this] maze",
)
OUTSIDE: dict[str, tuple[str, ...]] = {
    "the news": (
        "what [happened|is going on|is new] in {place}[ today| this week|]?",
        "[tell me|give me|read me] the [latest |]news[ from {place}|]",
        "who [won|lost] the election in {place}?",
        "what is in the [papers|news]?",
    ),
    "the weather": (
        "[what|how] [will|is] the weather [be |]in {place}[ tomorrow| today|]?",
        "[is it|will it be] [raining|sunny|cold|hot|snowing] in {place}?",
        "do I need [an umbrella|a coat][ in {place}|]?",
        "how [warm|cold] is it[ outside| in {place}|]?",
    ),
    "medicine": (
        "[which|what] [pill|medicine|cure] helps against {ailment}?",
        "I have {ailment}[, what should I take|, what can I do|. Help me]?",
        "[can you|please] diagnose {ailment}",
        "is {ailment} dangerous?",
        "should I see a doctor[ about {ailment}|]?",
    ),
    "law": (
        "can I sue my {person}?",
        "is it legal to [record|film|fire] my {person}?",
        "write a contract [with|for] my {person}",
        "what are my rights[ in {place}|]?",
    ),
    "money": (
        "should I [buy|sell] {asset}[ now|]?",
        "[will|is] {asset} [rise|worth more] next year?",
        "how [much|many] {asset} should I own?",
        "how do I [get rich|save money|pay less tax|invest]?",
        "what does {asset} cost?",
    ),
    "travel": (
        "book [me |]a [flight|train|hotel] [to|in] {place}",
        "which hotel in {place} is [the best|cheap]?",
        "how [long|far] is [it|the train ride] to {place}?",
        "plan [a|my] trip to {place}",
        "what should I see in {place}?",
    ),
    "cooking": (
        "how do I [cook|make|bake|prepare] {dish}?",
        "[give me|write|find] a recipe for {dish}",
        "how long does {dish} [need|take]?",
        "what goes into {dish}?",
    ),
    "mathematics": (
        "what is {number} [times|plus|minus|divided by] {other}?",
        "[divide|multiply|add] {number} [by|and] {other}",
        "is {number} [a prime number|even|odd]?",
        "solve [x squared plus {number}|this equation|the integral]",
        "{number} + {other}",
    ),
    "code": (
        "write [a|some] {language} [program|code|function|script][ that sorts {number} words|]",
        "why does my {language} [code|program] crash?",
        "teach me {language}",
        "[debug|fix|explain] [this|my] {language} [code|function]",
        "what is {language}?",
    ),
    "photographs": (
        "draw [a photo|a portrait] of my {person}",
        "draw {place}[ at night|]",
        "[make|create|take] a [photo|selfie|realistic picture] of [{place}|my {person}|{dish}]",
    ),
    "drawing animals": (
        "[draw|paint|show me|make] [a|me a] [cat|dog|horse|bird|fish|cow|mouse|lion|dragon|elephant|rabbit]",
        "I want a picture of a [cat|dog|horse|bird|puppy|kitten|snake]",
    ),
    "drawing houses and cars": (
        (
            "[draw|paint|show me|make] [a|me a] [house|car|tree|ship|train|plane|castle|bike|bridge|"
            "flower|table|chair]"
        ),
        "[a picture of|I want] a [house|car|tree|boat|church|robot|phone|clock|city|forest|mountain|beach]",
    ),
    "sport": (
        "who [won|lost] the [match|game|race|final|cup][ in {place}|]?",
        "how do I [run|swim|jump] [faster|further]?",
        "what is the [score|best team]?",
    ),
    "history": (
        "who [was|were] the [first|last] [king|queen|president|emperor] of {place}?",
        "when was {place} [founded|built|destroyed]?",
        "tell me about the [war|history] of {place}",
        "what is the capital of [France|Peru|Japan|Egypt|Norway|Kenya]?",
    ),
    "storytelling": (
        "tell me a [joke|story|riddle|fairy tale|secret]",
        (
            "write a [poem|song|story|novel|letter|haiku|limerick][ about [{dish}|my {person}|{place}|"
            "the sea|love]|]"
        ),
        "[sing|recite] [a song|something|a poem]",
        "make me laugh",
    ),
    "translation": (
        (
            "[translate|say] [this|hello|good morning|{dish}] [into|in] [French|German|Spanish|Latin|"
            "Chinese|Swahili]"
        ),
        "do you speak [French|German|Spanish|Chinese|Dutch|Hindi]?",
        "what does [bonjour|hola|danke|ciao|arigato] mean?",
        "correct my [grammar|spelling|essay]",
    ),
    "music": (
        "[play|find] [music|a song|some jazz|my favourite song]",
        "which [film|movie|book|song|series] should I [watch|read|hear]?",
        "who [wrote|sang|directed] [it|that song|this film|the book]?",
    ),
    "private matters": (
        "where does my {person} live?",
        "[find|give me] the [phone number|address|password] of my {person}",
        "read [the messages|the mail] of my {person}",
        "what is my [name|age|address|password]?",
    ),
    "the phone": (
        "call my {person}",
        "set [an alarm|a timer] for {number} minutes",
        "send [an email|a message] to my {person}",
        "what time is it[ in {place}|]?",
        "remind me to [eat {dish}|call my {person}]",
    ),
}
REPLIES: dict[str, tuple[str, ...]] = {
    "acknowledgement": ("Good. What shall we do next?", "All right. I can {skills}."),
    "complaint": (
        "I am sorry. Please say it once more in other words.",
        "I am sorry, I make mistakes. Please try again.",
    ),
    MISSING: (
        "I see no picture. Please show me one.",
        "There is no picture yet. Show me one, or let me draw it.",
    ),
    "unclear": ("I am sorry, I did not understand that. I can {skills}.",),
}
